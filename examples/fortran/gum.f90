! Gaussian with unknown mean, as a simulator in Fortran. It serves at the endpoint that its argument names.

program gum
  use, intrinsic :: iso_c_binding
  use, intrinsic :: iso_fortran_env, only: error_unit
  use ppx
  implicit none

  integer(c_size_t), parameter :: error_size = 512
  character(kind=c_char, len=:), allocatable, target :: endpoint, name
  character(kind=c_char) :: error(error_size)
  type(ppx_options) :: options
  type(c_ptr) :: session
  integer(c_int) :: code
  real(c_double) :: mu

  endpoint = argument(1, "tcp://127.0.0.1:5555") // c_null_char
  name = "gum (Fortran)" // c_null_char
  options%model_name = c_loc(name)
  error = c_null_char
  session = ppx_open(endpoint, options, error, error_size)
  if (.not. c_associated(session)) call fail(error)
  code = ppx_stop_on_signals(session)

  do
    code = ppx_wait_run(session)
    if (code /= ppx_run) exit
    code = model(mu)
    if (code == ppx_ok) then
      code = ppx_finish_scalar(session, mu)
    else
      call ppx_leave(session)
    end if
  end do
  call ppx_close(session)
  if (code == ppx_failed) error stop 1

contains

  ! A statement that is not ppx_ok asks the model to return at once.
  function model(mean) result(status)
    real(c_double), intent(out) :: mean
    integer(c_int) :: status
    status = ppx_sample_scalar(session, "gum:mu" // c_null_char, "mu" // c_null_char, 1_c_int, ppx_normal, &
        [1.0_c_double, sqrt(5.0_c_double)], mean)
    if (status /= ppx_ok) return
    status = ppx_observe_scalar(session, "gum:obs0" // c_null_char, "obs0" // c_null_char, ppx_normal, &
        [mean, sqrt(2.0_c_double)], c_null_ptr)
    if (status /= ppx_ok) return
    status = ppx_observe_scalar(session, "gum:obs1" // c_null_char, "obs1" // c_null_char, ppx_normal, &
        [mean, sqrt(2.0_c_double)], c_null_ptr)
  end function

  function argument(number, default) result(text)
    integer, intent(in) :: number
    character(len=*), intent(in) :: default
    character(len=:), allocatable :: text
    integer :: length
    call get_command_argument(number, length=length)
    if (length == 0) then
      text = default
    else
      allocate (character(len=length) :: text)
      call get_command_argument(number, text)
    end if
  end function

  subroutine fail(reason)
    character(kind=c_char), intent(in) :: reason(:)
    integer :: i
    do i = 1, size(reason)
      if (reason(i) == c_null_char) exit
      write (error_unit, "(a)", advance="no") reason(i)
    end do
    write (error_unit, *)
    error stop 1
  end subroutine
end program
