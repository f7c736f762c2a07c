/*
 * Sends RESET_STATS, the one private ioctl of the loopback device, to an interface:
 *
 *     cc -o reset_stats reset_stats.c && ./reset_stats loop0
 *
 * An ordinary program: it knows nothing of who answers.
 */
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SIOCDEVPRIVATE
#define SIOCDEVPRIVATE 0x89F0
#endif
#define RESET_STATS (SIOCDEVPRIVATE + 0)

int main(int argc, char **argv)
{
	struct ifreq request;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: %s INTERFACE\n", argv[0]);
		return 2;
	}
	memset(&request, 0, sizeof(request));
	strncpy(request.ifr_name, argv[1], IFNAMSIZ - 1);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || ioctl(fd, RESET_STATS, &request) < 0) {
		perror(argv[1]);
		return 1;
	}
	printf("%s: statistics reset\n", argv[1]);
	close(fd);
	return 0;
}
