# The library in both forms, the program (which alone has the server, the registry's client and the lab), and what `cmake --install` puts where.
set(library_objects)
set(program_objects)
foreach(module ${modules})
  if(module MATCHES "^nb_(cli|lab|server|registry)$")
    list(APPEND program_objects $<TARGET_OBJECTS:${module}>)
  else()
    list(APPEND library_objects $<TARGET_OBJECTS:${module}>)
  endif()
endforeach()
add_library(nibble_static STATIC ${library_objects})
set_target_properties(nibble_static PROPERTIES OUTPUT_NAME nibble)
add_library(nibble_shared SHARED ${library_objects})
set_target_properties(nibble_shared PROPERTIES OUTPUT_NAME nibble SOVERSION ${PROJECT_VERSION_MAJOR}
                                               VERSION ${PROJECT_VERSION})
foreach(lib nibble_static nibble_shared)
  target_include_directories(${lib} PUBLIC include)
  target_link_libraries(${lib} PUBLIC Threads::Threads m PkgConfig::PCRE2 PkgConfig::UTF8PROC PkgConfig::JANSSON
                                       PkgConfig::CRYPTO)
endforeach()

add_executable(nibble ${program_objects})
target_link_libraries(nibble PRIVATE nibble_static PkgConfig::HTTPD PkgConfig::CURL)

# nibble.pc finds its prefix from where it lies: --prefix and a moved tree both work
file(RELATIVE_PATH up_to_prefix /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(cmake/nibble.pc.in nibble.pc @ONLY)
install(TARGETS nibble nibble_static nibble_shared)
install(FILES include/nibble.h TYPE INCLUDE)
install(FILES ${CMAKE_BINARY_DIR}/nibble.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES docs/nibble.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES tools/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME nibble)
# the unit names the program by its whole path: known when it is installed
install(CODE "set(bindir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
configure_file(\"${CMAKE_SOURCE_DIR}/packaging/nibble.service.in\" \"${CMAKE_BINARY_DIR}/nibble.service\" @ONLY)")
install(FILES ${CMAKE_BINARY_DIR}/nibble.service DESTINATION lib/systemd/system)
