! The C interface of ppx for Fortran: sessions, and statements of single numbers with addresses given as text.

module ppx
  use, intrinsic :: iso_c_binding
  implicit none

  integer(c_int), parameter :: ppx_ok = 0, ppx_run = 1, ppx_stopped = 2, ppx_unwind = -1, ppx_failed = -2
  integer(c_int), parameter :: ppx_normal = 1, ppx_uniform = 2, ppx_poisson = 4, ppx_bernoulli = 5, ppx_beta = 6, &
      ppx_exponential = 7, ppx_gamma = 8, ppx_log_normal = 9, ppx_binomial = 10, ppx_weibull = 11, &
      ppx_truncated_normal = 12, ppx_von_mises = 13, ppx_delta = 16, ppx_negative_binomial = 17, &
      ppx_negative_binomial_2 = 18, ppx_beta_binomial = 19, ppx_geometric = 20, ppx_hypergeometric = 21, &
      ppx_zero_inflated_poisson = 22, ppx_student_t = 23, ppx_cauchy = 24, ppx_half_cauchy = 25, ppx_half_normal = 26, &
      ppx_laplace = 27, ppx_logistic = 28, ppx_gumbel = 29, ppx_inverse_gamma = 30, ppx_pareto = 31

  type, bind(c) :: ppx_options
    type(c_ptr) :: system_name = c_null_ptr
    type(c_ptr) :: model_name = c_null_ptr
    type(c_ptr) :: build_id = c_null_ptr
    type(c_ptr) :: curve_secret_key = c_null_ptr
    logical(c_bool) :: stop_with_parent = .false.
    integer(c_int32_t) :: disabled = 0
  end type

  interface
    function ppx_open(endpoint, options, error, error_size) bind(c) result(session)
      import :: c_ptr, c_char, c_size_t, ppx_options
      character(kind=c_char), intent(in) :: endpoint(*)
      type(ppx_options), intent(in) :: options
      character(kind=c_char), intent(inout) :: error(*)
      integer(c_size_t), value :: error_size
      type(c_ptr) :: session
    end function

    subroutine ppx_close(session) bind(c)
      import :: c_ptr
      type(c_ptr), value :: session
    end subroutine

    function ppx_stop_on_signals(session) bind(c) result(code)
      import :: c_ptr, c_int
      type(c_ptr), value :: session
      integer(c_int) :: code
    end function

    function ppx_wait_run(session) bind(c) result(code)
      import :: c_ptr, c_int
      type(c_ptr), value :: session
      integer(c_int) :: code
    end function

    subroutine ppx_leave(session) bind(c)
      import :: c_ptr
      type(c_ptr), value :: session
    end subroutine

    function ppx_finish_scalar(session, value) bind(c) result(code)
      import :: c_ptr, c_int, c_double
      type(c_ptr), value :: session
      real(c_double), value :: value
      integer(c_int) :: code
    end function

    function ppx_sample_scalar(session, address, name, control, family, parameters, value) bind(c) result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: session
      character(kind=c_char), intent(in) :: address(*), name(*)
      integer(c_int), value :: control, family
      real(c_double), intent(in) :: parameters(*)
      real(c_double), intent(out) :: value
      integer(c_int) :: code
    end function

    ! `value`: c_null_ptr if the inference side has it.
    function ppx_observe_scalar(session, address, name, family, parameters, value) bind(c) result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: session
      character(kind=c_char), intent(in) :: address(*), name(*)
      integer(c_int), value :: family
      real(c_double), intent(in) :: parameters(*)
      type(c_ptr), value :: value
      integer(c_int) :: code
    end function

    function ppx_tag_scalar(session, address, name, value) bind(c) result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: session
      character(kind=c_char), intent(in) :: address(*), name(*)
      real(c_double), value :: value
      integer(c_int) :: code
    end function

    function ppx_factor_scalar(session, address, name, log_factor) bind(c) result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: session
      character(kind=c_char), intent(in) :: address(*), name(*)
      real(c_double), value :: log_factor
      integer(c_int) :: code
    end function
  end interface
end module
