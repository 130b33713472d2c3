/* preads DIR CPUS: opens DIR/dev/cpu/N/cpuid and msr of each CPU, reads what a check reads there, prints the seconds.
 * The value of each number is at offset number * size, as for kvmprobe --sysroot. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const uint64_t LEAVES[] = {0x0, 0x1, 0x40000000, 0x80000000, 0x80000001, 0x8000000A, 0x8000001F};
static const uint64_t REGISTERS[] = {0xC0000080, 0xC0010114, 0xC0010117};
enum { SNAPSHOTS = 3 };

static void all(const char *dir, int cpu, const char *name, const uint64_t *numbers, int count, size_t size) {
  char path[4096], data[16];
  snprintf(path, sizeof path, "%s/dev/cpu/%d/%s", dir, cpu, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  for (int i = 0; i < count; i++)
    if (pread(fd, data, size, numbers[i] * size) != (ssize_t)size)
      exit(1);
  close(fd);
}

int main(int argc, char **argv) {
  struct timespec from, to;
  int cpus = argc > 2 ? atoi(argv[2]) : 1;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int cpu = 0; cpu < cpus; cpu++)
    all(argv[1], cpu, "cpuid", LEAVES, 7, 16);
  for (int snapshot = 0; snapshot < SNAPSHOTS; snapshot++)
    for (int cpu = 0; cpu < cpus; cpu++)
      all(argv[1], cpu, "msr", REGISTERS, 3, 8);
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%f\n", to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9);
  return 0;
}
