# Warnings and sanitizers for every room, and per-file SIMD flags: what ships runs on generic
# x86-64 and picks faster files at run time.
add_library(sight_flags INTERFACE)
target_compile_definitions(sight_flags INTERFACE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
target_compile_options(sight_flags INTERFACE
  -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes
  -Wwrite-strings -Wundef -Wno-unused-parameter
  $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> -fno-math-errno -fno-trapping-math
  -ffp-contract=off -fno-strict-aliasing)
if(SIGHT_WERROR)
  target_compile_options(sight_flags INTERFACE -Werror)
endif()
if(SIGHT_SANITIZE)
  target_compile_options(sight_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer
    -fno-sanitize-recover=undefined -g -O1)
  target_link_options(sight_flags INTERFACE -fsanitize=address,undefined)
endif()
if(SIGHT_TSAN)
  target_compile_options(sight_flags INTERFACE -fsanitize=thread -g -O1)
  target_link_options(sight_flags INTERFACE -fsanitize=thread)
endif()
if(SIGHT_FUZZ)
  target_compile_options(sight_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# The suffix of a file's name says which instructions it may use.
function(sight_simd_flags)
  foreach(file ${ARGN})
    set(flags "")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      if(file MATCHES "_avx512bf16\\.c$")
        set(flags "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512bf16;-mfma;-mf16c;-mavx2")
      elseif(file MATCHES "_avx512vnni\\.c$")
        set(flags "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mfma;-mf16c;-mavx2")
      elseif(file MATCHES "_avx512\\.c$")
        set(flags "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mf16c;-mavx2;-mprefer-vector-width=512")
      elseif(file MATCHES "_avxvnni\\.c$")
        set(flags "-mavx2;-mavxvnni;-mfma;-mf16c")
      elseif(file MATCHES "_avx2\\.c$")
        set(flags "-mavx2;-mfma;-mf16c")
      endif()
    endif()
    if(flags AND SIGHT_FUZZ)
      list(APPEND flags "-fno-sanitize=all") # clang takes minutes to instrument unrolled tiles, and no parser calls them
    endif()
    if(flags)
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${flags}")
    endif()
  endforeach()
endfunction()
