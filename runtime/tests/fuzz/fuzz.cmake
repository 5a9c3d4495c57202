# Fuzz targets.  With any compiler: replayed over their corpora and changed copies of them, a bounded number and always
# the same.  With Clang, -DISA_FUZZ=ON and -DISA_SANITIZE=address,undefined: libFuzzer too, tests/fuzz_NAME.
option(ISA_FUZZ "Build the fuzz targets with libFuzzer (Clang)" OFF)
set(fuzz_folder ${CMAKE_CURRENT_LIST_DIR})

if(ISA_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "ISA_FUZZ needs Clang, which brings libFuzzer; the compiler is ${CMAKE_CXX_COMPILER_ID}")
  endif()
  if(NOT ISA_SANITIZE MATCHES "address")
    message(FATAL_ERROR "ISA_FUZZ needs -DISA_SANITIZE=address,undefined: without them a fuzzer sees crashes alone")
  endif()
  target_compile_options(isa_core PRIVATE -fsanitize=fuzzer-no-link)
endif()

function(isa_fuzz name)
  set(corpus ${fuzz_folder}/corpus/${name})
  add_executable(${name}_replay ${fuzz_folder}/${name}.cpp ${fuzz_folder}/replay.cpp)
  target_link_libraries(${name}_replay PRIVATE isa_core isa_build_options isa_json)
  add_test(NAME ${name}_replay COMMAND ${name}_replay ${corpus} 2000)
  set_tests_properties(${name}_replay PROPERTIES TIMEOUT 120)
  if(ISA_FUZZ)
    add_executable(${name} ${fuzz_folder}/${name}.cpp)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(${name} PRIVATE isa_core isa_build_options isa_json)
    # what it finds goes into the first folder, which is the build's
    set(found ${CMAKE_CURRENT_BINARY_DIR}/found/${name})
    file(MAKE_DIRECTORY ${found})
    add_test(NAME ${name} COMMAND ${name} -runs=20000 -seed=1 -max_total_time=60 -timeout=10 -max_len=4096
      -artifact_prefix=${found}/ ${found} ${corpus})
    set_tests_properties(${name} PROPERTIES TIMEOUT 180)
  endif()
endfunction()

foreach(name fuzz_manifest fuzz_onnx fuzz_windows fuzz_labels)
  isa_fuzz(${name})
endforeach()
# the vector kernels that this processor would not choose
foreach(simd portable avx2)
  add_test(NAME fuzz_labels_replay_${simd} COMMAND fuzz_labels_replay ${fuzz_folder}/corpus/fuzz_labels 1000)
  set_tests_properties(fuzz_labels_replay_${simd} PROPERTIES TIMEOUT 120 ENVIRONMENT ISA_SIMD=${simd})
endforeach()
