/* The system calls of kvmprobe's soak cycle, in the same order, without an interpreter.
 * cycle N: does N cycles and prints cycles per second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const unsigned char CODE[] = {0xBA, 0xE9, 0x00, 0x00, 0xD8, 0xE2, 0xFC, 0xEE, 0xF4};
static const uint32_t REGISTERS[] = {0xC0000080, 0xC0010114, 0xC0010117};
static int msr[CPU_SETSIZE], cpus, events;

static void check(int ok, const char *what) {
  if (!ok) {
    perror(what);
    exit(1);
  }
}

static void look(void) {
  uint64_t value;
  for (int cpu = 0; cpu < cpus; cpu++)
    for (int i = 0; i < 3; i++)
      check(pread(msr[cpu], &value, 8, REGISTERS[i]) == 8, "msr");
}

static void ignore(int signum) { (void)signum; }

static void run(int kvm, int vm, int backwards) {
  cpu_set_t before, pinned;
  struct itimerval arm = {{0, 100000}, {10, 0}}, disarm = {{0, 0}, {0, 0}};
  struct stat status;
  sched_getaffinity(0, sizeof before, &before);
  sched_getaffinity(0, sizeof before, &before);
  unsigned char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memcpy(memory, CODE, sizeof CODE);
  check(ioctl(vm, KVM_SET_TSS_ADDR, 0xFFFBD000) == 0, "KVM_SET_TSS_ADDR");
  struct kvm_userspace_memory_region region = {0, 0, 0x1000, 4096, (uintptr_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "KVM_SET_USER_MEMORY_REGION");
  int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  check(vcpu >= 0, "KVM_CREATE_VCPU");
  fstat(vcpu, &status);
  int copy = fcntl(vcpu, F_DUPFD_CLOEXEC, 0);
  struct kvm_run *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  for (int i = 0; i < CPU_SETSIZE; i++) {
    int cpu = backwards ? CPU_SETSIZE - 1 - i : i;
    if (!CPU_ISSET(cpu, &before))
      continue;
    CPU_ZERO(&pinned);
    CPU_SET(cpu, &pinned);
    sched_setaffinity(0, sizeof pinned, &pinned);
    setitimer(ITIMER_REAL, &arm, NULL);
    struct kvm_sregs sregs;
    ioctl(vcpu, KVM_GET_SREGS, &sregs);
    sregs.cs.base = sregs.cs.selector = 0;
    ioctl(vcpu, KVM_SET_SREGS, &sregs);
    struct kvm_regs regs = {.rax = cpu, .rbx = cpu ^ 0x5A, .rcx = 7, .rip = 0x1000, .rflags = 2};
    ioctl(vcpu, KVM_SET_REGS, &regs);
    do
      check(ioctl(vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
    while (shared->exit_reason == KVM_EXIT_IO);
    check(shared->exit_reason == KVM_EXIT_HLT, "KVM_RUN");
    setitimer(ITIMER_REAL, &disarm, NULL);
  }
  close(copy);
  munmap(shared, size);
  close(vcpu);
  munmap(memory, 4096);
  sched_setaffinity(0, sizeof before, &before);
}

int main(int argc, char **argv) {
  int cycles = argc > 1 ? atoi(argv[1]) : 1;
  char path[64], message[8192];
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
  events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  check(bind(events, (struct sockaddr *)&address, sizeof address) == 0, "bind");
  for (; cpus < CPU_SETSIZE; cpus++) {
    snprintf(path, sizeof path, "/dev/cpu/%d/msr", cpus);
    if ((msr[cpus] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
      break;
  }
  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  check(kvm >= 0, "/dev/kvm");
  signal(SIGALRM, ignore);
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int i = 0; i < cycles; i++) {
    while (read(events, message, sizeof message) >= 0)
      ;
    look();
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check(vm >= 0, "KVM_CREATE_VM");
    look();
    run(kvm, vm, i & 1);
    close(vm);
    look();
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%f\n", cycles / (to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9));
  return 0;
}
