# SIGHT_CUDA: how kernels/cuda gets into the build.
#   ON    nvcc, the static CUDA runtime; cuBLASLt and the driver are looked for at run time
#   SHIM  the same files, compiled for the processor against tests/cuda_on_cpu; no CUDA package is needed
#   OFF   not at all
#   AUTO  ON where there is a toolkit, and no sanitizer, fuzzer or cross-build in the way; else OFF
set(SIGHT_CUDA AUTO CACHE STRING "CUDA: AUTO, ON, OFF, or SHIM (kernels run on the CPU, for tests)")
set_property(CACHE SIGHT_CUDA PROPERTY STRINGS AUTO ON OFF SHIM)
set(SIGHT_CUDA_ARCHITECTURES "80-real;86-real;89-real;90-real;100-real;120" CACHE STRING
    "GPUs to compile for; a number without -real is kept as PTX too, for newer ones")

find_program(SIGHT_NVCC nvcc PATHS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
find_path(SIGHT_CUBLASLT_INCLUDE cublasLt.h HINTS /usr/local/cuda/include ENV CUDA_PATH ENV CUDA_HOME
          PATH_SUFFIXES include)
mark_as_advanced(SIGHT_NVCC SIGHT_CUBLASLT_INCLUDE)

# Sets cuda_mode to ON, OFF or SHIM.
function(sight_cuda_mode)
  string(TOUPPER "${SIGHT_CUDA}" wanted)
  if(NOT wanted MATCHES "^(AUTO|ON|OFF|SHIM)$")
    message(FATAL_ERROR "SIGHT_CUDA is '${SIGHT_CUDA}', must be AUTO, ON, OFF or SHIM")
  endif()
  set(missing "")
  if(NOT SIGHT_NVCC)
    set(missing "nvcc is not there")
  elseif(NOT SIGHT_CUBLASLT_INCLUDE)
    set(missing "cublasLt.h is not there")
  endif()
  if(wanted STREQUAL ON AND missing)
    message(FATAL_ERROR "SIGHT_CUDA is ON, but ${missing}")
  endif()
  if(wanted STREQUAL AUTO)
    set(wanted ON)
    if(missing OR CMAKE_CROSSCOMPILING OR SIGHT_SANITIZE OR SIGHT_TSAN OR SIGHT_FUZZ)
      set(wanted OFF)
    endif()
  endif()
  message(STATUS "CUDA: ${wanted}")
  set(cuda_mode ${wanted} PARENT_SCOPE)
endfunction()

sight_cuda_mode()
if(cuda_mode STREQUAL ON)
  set(CMAKE_CUDA_COMPILER ${SIGHT_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${SIGHT_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3") # asserts of the host code stay on, as in C
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
elseif(cuda_mode STREQUAL SHIM)
  set(CMAKE_CXX_FLAGS_RELEASE "-O2")
  enable_language(CXX)
endif()
if(NOT cuda_mode STREQUAL OFF)
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CUDA_STANDARD 17)
endif()

# .cu files as C++ for the processor.
function(sight_shim_sources)
  set(options -Wno-unknown-pragmas -fno-exceptions -fno-rtti)
  if(SIGHT_SANITIZE)
    list(APPEND options "-fsanitize-sections=shim_shared_*")
  endif()
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${options}")
endfunction()

# Adds kernels/cuda to the room of kernels.
function(sight_cuda_room target)
  if(cuda_mode STREQUAL OFF)
    return()
  endif()
  file(GLOB host CONFIGURE_DEPENDS kernels/cuda/*.c)
  file(GLOB device CONFIGURE_DEPENDS kernels/cuda/*.cu)
  target_sources(${target} PRIVATE ${host} ${device})
  target_compile_definitions(${target} PUBLIC SIGHT_CUDA)
  if(cuda_mode STREQUAL SHIM)
    file(GLOB shim CONFIGURE_DEPENDS tests/cuda_on_cpu/*.c)
    sight_room(cuda_on_cpu SOURCES ${shim} LINK sight_flags Threads::Threads m)
    target_include_directories(sight_cuda_on_cpu BEFORE PUBLIC ${CMAKE_SOURCE_DIR}/tests/cuda_on_cpu)
    target_compile_definitions(sight_cuda_on_cpu PUBLIC SIGHT_CUDA_SHIM)
    target_link_libraries(${target} PUBLIC sight_cuda_on_cpu)
    if(device)
      sight_shim_sources(${device})
    endif()
    return()
  endif()
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fno-exceptions;-Xfatbin=-compress-all;-lineinfo>")
  target_link_libraries(${target} PUBLIC CUDA::cudart_static ${CMAKE_DL_LIBS})
  target_link_options(${target} PUBLIC -Wl,--as-needed) # no C++ library for kernels in C's manner
endfunction()
