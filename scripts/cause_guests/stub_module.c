/*
 * Stand-ins for modules that keep KVM from SVM. stub_modules.py compiles this without the kernel's headers: it takes
 * what they would give (the layout of struct module, the version magic, the symbols' versions) from another module.
 *
 * STUB is 1, 2 or 3: see stub_modules.py.
 */

#define TEXT(value) #value
#define QUOTED(value) TEXT(value)

__asm__(".section .modinfo, \"a\"\n"
	".asciz \"license=GPL\"\n"
	".asciz \"retpoline=Y\"\n"
	".asciz \"version=6.1.50\"\n"
	".asciz \"name=" QUOTED(NAME) "\"\n"
	".incbin \"vermagic\"\n"
	".section __versions, \"a\"\n"
	".balign 64\n"
	".incbin \"versions\"\n"
	".section .gnu.linkonce.this_module, \"aw\"\n"
	".balign 64\n"
	".globl __this_module\n"
	"__this_module:\n"
	".zero 24\n" /* enum module_state and struct list_head: since 2.6.0 the name follows them */
	".asciz \"" QUOTED(NAME) "\"\n"
	".org __this_module + " QUOTED(INIT_AT) "\n"
	".quad init_module\n"
	".org __this_module + " QUOTED(EXIT_AT) "\n"
	".quad cleanup_module\n"
	".org __this_module + " QUOTED(SIZE) "\n"
	".text\n");

#if STUB == 1 /* takes KVM's slot for a vendor module, as kvm_arch_init() of Linux 6.1 sees it */

extern char __this_module[];
extern const char param_ops_uint[];

/* The lower half of the address of kvm_x86_ops, which is not exported: see /proc/kallsyms. */
static unsigned int kvm_x86_ops;

static const struct { /* struct kernel_param (include/linux/moduleparam.h) */
	const char *name;
	void *module;
	const void *operations;
	unsigned short mode;
	signed char level;
	unsigned char flags;
	void *value;
} parameter __attribute__((section("__param"), used)) = {
	"kvm_x86_ops", __this_module, param_ops_uint, 0, -1, 0, &kvm_x86_ops
};

static void set(const void *name, const void *hardware_enable) /* the first two of struct kvm_x86_ops */
{
	const void **ops = (const void **)(0xffffffff00000000ul | kvm_x86_ops);

	ops[0] = name;
	ops[1] = hardware_enable;
}

int init_module(void)
{
	set(QUOTED(NAME), set);
	return 0;
}

void cleanup_module(void)
{
	set(0, 0);
}

#elif STUB == 2 /* sets EFER.SVME on CPU 1, as another hypervisor does. Its device node counts users. */

#define EFER 0xc0000080u
#define SVME 0x1000u
#define MAJOR 240 /* for local use (Documentation/admin-guide/devices.txt) */

extern int smp_call_function_single(int cpu, void (*function)(void *), void *info, int wait);
extern int __register_chrdev(unsigned int major, unsigned int minor, unsigned int count, const char *name,
			     const void *operations);
extern void __unregister_chrdev(unsigned int major, unsigned int minor, unsigned int count, const char *name);
extern char __this_module[];

static struct {
	void *owner;
	char rest[1024];
} operations = { __this_module };

static void set_svme(void *on)
{
	unsigned int low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(EFER));
	low = on ? low | SVME : low & ~SVME;
	__asm__ volatile("wrmsr" : : "a"(low), "d"(high), "c"(EFER));
}

int init_module(void)
{
	smp_call_function_single(1, set_svme, __this_module, 1);
	return __register_chrdev(MAJOR, 0, 1, QUOTED(NAME), &operations);
}

void cleanup_module(void)
{
	__unregister_chrdev(MAJOR, 0, 1, QUOTED(NAME));
	smp_call_function_single(1, set_svme, 0, 1);
}

#else /* switches SVM on through KVM, which exports these functions from 6.12 to 7.0 */

extern int kvm_enable_virtualization(void);
extern void kvm_disable_virtualization(void);

int init_module(void)
{
	return kvm_enable_virtualization();
}

void cleanup_module(void)
{
	kvm_disable_virtualization();
}

#endif
