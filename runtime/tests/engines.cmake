# The backends through their tables of functions, with graphs that the test makes itself.
if(TARGET isa_openvino OR TARGET isa_onnxruntime)
  add_executable(test_engine_backends test_engine_backends.cpp)
  target_include_directories(test_engine_backends PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(test_engine_backends PRIVATE isa_build_options Threads::Threads ${CMAKE_DL_LIBS})
endif()
foreach(backend openvino onnxruntime)
  if(TARGET isa_${backend})
    add_test(NAME test_backend_${backend} COMMAND test_engine_backends)
    add_dependencies(test_engine_backends isa_${backend})
    # memory that cannot be had is a status and no reason to end, under a sanitizer too; TBB's dlopen has a flag that
    # sanitizers refuse
    set(environment "ISA_TEST_BACKEND=$<TARGET_FILE:isa_${backend}>" TBB_ENABLE_SANITIZERS=1
      ASAN_OPTIONS=allocator_may_return_null=1
      "TSAN_OPTIONS=allocator_may_return_null=1 suppressions=${CMAKE_CURRENT_SOURCE_DIR}/engines.tsan")
    set_tests_properties(test_backend_${backend} PROPERTIES TIMEOUT 120 ENVIRONMENT "${environment}")
  endif()
endforeach()
