/* How often a program can ask: private ioctls, requests that go on to the kernel, and what the rest costs. */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 100000, s = socket(AF_INET, SOCK_DGRAM, 0), i, answered = 0;
	struct ifreq request;
	double begin, device, kernel, plain, opening;

	memset(&request, 0, sizeof(request));
	strcpy(request.ifr_name, "demo0");
	begin = now();
	for (i = 0; i < count; i++)
		answered += ioctl(s, 0x89f0, &request) >= 0;
	device = now() - begin;
	strcpy(request.ifr_name, "lo");
	begin = now();
	for (i = 0; i < count; i++)
		ioctl(s, SIOCGIFMTU, &request);
	kernel = now() - begin;
	begin = now();
	for (i = 0; i < 2000000; i++)
		syscall(SYS_getppid);
	plain = now() - begin;
	begin = now();
	for (i = 0; i < 20000; i++)
		close(open("/etc/passwd", O_RDONLY));
	opening = now() - begin;
	printf("{\"answered\": %d, \"deviceNs\": %.0f, \"kernelNs\": %.0f, \"plainNs\": %.1f, \"openNs\": %.0f}\n", answered,
	       device / count * 1e9, kernel / count * 1e9, plain / 2e6 * 1e9, opening / 20000 * 1e9);
	return 0;
}
