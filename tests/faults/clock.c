/* A wrong clock for one process and its children: the wall clock is CLOCK_SKEW seconds off, in what they read
   and in the moments until which they wait. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) \
        next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static long skew(void)
{
    const char *said = getenv("CLOCK_SKEW");
    return said ? atol(said) : 0;
}

/* The kernel's own time of a moment. Moments of the monotonic clock are small: seconds since the start. */
static struct timespec right(const struct timespec *moment)
{
    struct timespec other = *moment;
    if (other.tv_sec > 1000000000)
        other.tv_sec -= skew();
    return other;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    NEXT(clock_gettime);
    int code = next(clock, now);
    if (!code && clock == CLOCK_REALTIME)
        now->tv_sec += skew();
    return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    NEXT(gettimeofday);
    int code = next(now, zone);
    if (!code)
        now->tv_sec += skew();
    return code;
}

time_t time(time_t *out)
{
    NEXT(time);
    time_t now = next(NULL) + skew();
    if (out)
        *out = now;
    return now;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    NEXT(pthread_cond_timedwait);
    struct timespec moment = right(until);
    return next(condition, mutex, &moment);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    NEXT(sem_timedwait);
    struct timespec moment = right(until);
    return next(semaphore, &moment);
}

/* Abseil, below gRPC and Ray, waits by the system call itself. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
    NEXT(syscall);
    if (number == SYS_futex && (b & FUTEX_CLOCK_REALTIME) && d) {
        struct timespec moment = right((const struct timespec *)d);
        return next(number, a, b, c, (long)&moment, e, f);
    }
    return next(number, a, b, c, d, e, f);
}
