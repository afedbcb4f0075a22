/* sanitized.h - NB_SANITIZED is defined where a sanitizer has put its own allocator in the C library's place: memory is
 * not what it is elsewhere there. */
#ifndef NB_TESTS_SANITIZED_H
#define NB_TESTS_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NB_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NB_SANITIZED 1
#endif
#endif

#endif
