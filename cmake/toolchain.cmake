# Warnings, hardening and sanitizers: the same for every room.
add_library(penstock_flags INTERFACE)
target_compile_options(penstock_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual
  -Wimplicit-fallthrough -Wno-missing-field-initializers -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports these inside its own library headers at -O2 (GCC bugs 105329, 105651).
  target_compile_options(penstock_flags INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds
    -Wno-maybe-uninitialized)
endif()
# Rooms are static libraries of one program: nothing in them is ever interposed, so calls may be inlined.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(penstock_flags INTERFACE -fno-semantic-interposition -fno-plt)
endif()
if(PENSTOCK_SANITIZE)
  add_compile_options(-fsanitize=${PENSTOCK_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${PENSTOCK_SANITIZE})
  if(PENSTOCK_FUZZ)
    # Coverage counters for libFuzzer; programs other than the fuzz targets carry them without using them.
    add_compile_options(-fsanitize=fuzzer-no-link)
  endif()
else()
  target_compile_options(penstock_flags INTERFACE -fstack-protector-strong)
  target_link_options(penstock_flags INTERFACE -Wl,-z,relro,-z,now)
endif()

find_program(PENSTOCK_CCACHE ccache)
if(PENSTOCK_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${PENSTOCK_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PENSTOCK_CCACHE})
endif()
