# The target ppx::zmq for libzmq, wherever it is installed; used when the front end is built and when it is found.

if(NOT TARGET ppx::zmq)
  find_path(PPX_ZMQ_INCLUDE_DIR zmq.h)
  find_library(PPX_ZMQ_LIBRARY zmq)
  mark_as_advanced(PPX_ZMQ_INCLUDE_DIR PPX_ZMQ_LIBRARY)
  if(NOT PPX_ZMQ_INCLUDE_DIR OR NOT PPX_ZMQ_LIBRARY)
    message(FATAL_ERROR "ppx needs libzmq (Debian: libzmq3-dev); set CMAKE_PREFIX_PATH if it is installed elsewhere")
  endif()
  add_library(ppx::zmq UNKNOWN IMPORTED)
  set_target_properties(ppx::zmq PROPERTIES
    IMPORTED_LOCATION "${PPX_ZMQ_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${PPX_ZMQ_INCLUDE_DIR}")
endif()
