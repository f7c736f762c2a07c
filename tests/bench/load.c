/*
 * The load client of `deno task bench` where there is a C compiler: one thread on the kernel's sockets, so that the client is
 * not what is measured. Prints one line of JSON. tests/bench/client.ts is the same in TypeScript, for machines without one.
 *
 *   load MODE ADDRESS [-n connections] [-t seconds] [-w warm-up seconds] [-s bytes] [-f in flight] [-p pid of the server]
 *
 *   in     bytes to the discard port, as acknowledged by the server (TCP_INFO): what a socket buffer swallowed doesn't count
 *   out    bytes from the chargen port
 *   rr     -s bytes to the echo port and back, again and again on each connection
 *   crr    connect, a byte each way, both FINs, again and again
 *   udp    datagrams to the echo port, -f under way; one that isn't back in 100 ms is lost
 *   blast  datagrams to the echo port as fast as they go; counts what came back
 *   ping   ICMP echo, one at a time
 *   first  asks the UDP echo port every 2 ms until it answers; gives the time of day of the answer
 *   idle   opens -n connections, says so, and holds them until standard input ends
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE (256 * 1024)
#define SAMPLES (1 << 22)
#define STALL_MS 3000
enum { ECHO = 7, DISCARD = 9, CHARGEN = 19 };

struct conn {
  int fd;
  int got;
  int step;
  int counted;
  uint64_t began;
  uint64_t acked;
  uint64_t retransmits;
};

static struct sockaddr_in server;
static int connections = 1, size = 1, flight = 1, server_pid;
static double seconds = 1, warm_up = 0.3;
static char piece[PIECE];
static uint32_t *samples;
static size_t sample_count;
static uint64_t count, bytes, lost, errors, retransmits;
static uint64_t measure_from, measure_to, measure_begun, measure_ended;
static double cpu_before, cpu_after;
static int measuring, done;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* Processor time of the server so far, in seconds: fields 14 and 15 of its stat, counted behind the name. */
static double server_cpu(void) {
  char path[64], text[1024];
  unsigned long user = 0, kernel = 0;
  if (server_pid == 0) return 0;
  snprintf(path, sizeof path, "/proc/%d/stat", server_pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  char *rest = strrchr(text, ')');
  if (rest != NULL) sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
  return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static void acked(struct conn *all, int sign) {
  for (int i = 0; all != NULL && i < connections; i++) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(all[i].fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    if (sign < 0) {
      all[i].acked = info.tcpi_bytes_acked;
      all[i].retransmits = info.tcpi_total_retrans;
    } else {
      bytes += info.tcpi_bytes_acked - all[i].acked;
      retransmits += info.tcpi_total_retrans - all[i].retransmits;
    }
  }
}

/* Looks at the clock, and begins and ends the measurement. Called between any two pieces of work. */
static uint64_t tick(struct conn *senders) {
  uint64_t now = now_ns();
  if (!measuring && now >= measure_from) {
    measuring = 1;
    cpu_before = server_cpu();
    count = bytes = lost = 0;
    sample_count = 0;
    measure_begun = now_ns();
    measure_to = measure_begun + (uint64_t)(seconds * 1e9);
    acked(senders, -1);
  } else if (measuring && now >= measure_to) {
    done = 1;
    measure_ended = now_ns();
    acked(senders, 1);
    cpu_after = server_cpu();
  }
  return now;
}

static void sample(uint64_t ns) {
  if (sample_count < SAMPLES) samples[sample_count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static int tcp_socket(int flags) {
  int fd = socket(AF_INET, SOCK_STREAM | flags, 0), one = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct timeval stall = {STALL_MS / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
  return fd;
}

static void watch(int poller, struct conn *conn, uint32_t events, int how) {
  struct epoll_event event = {events, {.ptr = conn}};
  if (epoll_ctl(poller, how, conn->fd, &event) != 0) fail("epoll_ctl");
}

static struct conn *connect_all(int port) {
  struct conn *all = calloc((size_t)connections, sizeof *all);
  server.sin_port = htons((uint16_t)port);
  for (int i = 0; i < connections; i++) {
    all[i].fd = tcp_socket(0);
    if (connect(all[i].fd, (struct sockaddr *)&server, sizeof server) != 0) fail("connect");
  }
  return all;
}

/* Waits for events; a server that does nothing for a while ends the run. */
static int wait_events(int poller, struct epoll_event *events, int max) {
  int n = epoll_wait(poller, events, max, STALL_MS);
  if (n == 0) {
    errno = ETIMEDOUT;
    fail("the server stalled");
  }
  return n < 0 ? 0 : n;
}

static void bulk(int out) {
  struct conn *all = connect_all(out ? CHARGEN : DISCARD);
  struct epoll_event events[64];
  int poller = epoll_create1(0);
  for (int i = 0; i < connections; i++) watch(poller, &all[i], out ? EPOLLIN : EPOLLOUT, EPOLL_CTL_ADD);
  while (!done) {
    int n = wait_events(poller, events, 64);
    for (int i = 0; i < n && !done; i++) {
      struct conn *conn = events[i].data.ptr;
      ssize_t moved = out ? recv(conn->fd, piece, PIECE, MSG_DONTWAIT) : send(conn->fd, piece, PIECE, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (moved == 0 || (moved < 0 && errno != EAGAIN)) fail(out ? "recv" : "send");
      if (out && moved > 0) bytes += (uint64_t)moved;
      tick(out ? NULL : all);
    }
  }
}

static void begin_round_trip(struct conn *conn) {
  conn->got = 0;
  conn->began = now_ns();
  conn->counted = measuring;
  if (send(conn->fd, piece, (size_t)size, MSG_NOSIGNAL) != size) fail("send");
}

static void finish_round_trip(struct conn *conn) {
  uint64_t now = tick(NULL);
  if (!conn->counted || done) return;
  count++;
  sample(now - conn->began);
}

static void round_trips(void) {
  struct conn *all = connect_all(ECHO);
  struct epoll_event events[64];
  if (connections == 1) {
    while (!done) {
      begin_round_trip(all);
      if (recv(all->fd, piece, (size_t)size, MSG_WAITALL) != size) fail("recv");
      finish_round_trip(all);
    }
    return;
  }
  int poller = epoll_create1(0);
  for (int i = 0; i < connections; i++) {
    watch(poller, &all[i], EPOLLIN, EPOLL_CTL_ADD);
    begin_round_trip(&all[i]);
  }
  while (!done) {
    int n = wait_events(poller, events, 64);
    for (int i = 0; i < n && !done; i++) {
      struct conn *conn = events[i].data.ptr;
      ssize_t moved = recv(conn->fd, piece, (size_t)(size - conn->got), MSG_DONTWAIT);
      if (moved == 0 || (moved < 0 && errno != EAGAIN)) fail("recv");
      if (moved > 0) conn->got += (int)moved;
      if (conn->got < size) continue;
      finish_round_trip(conn);
      begin_round_trip(conn);
    }
  }
}

static void dial(int poller, struct conn *conn) {
  conn->fd = tcp_socket(SOCK_NONBLOCK);
  conn->step = 0;
  conn->began = now_ns();
  conn->counted = measuring;
  if (connect(conn->fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS) fail("connect");
  watch(poller, conn, EPOLLOUT, EPOLL_CTL_ADD);
}

/* One step of connect, byte out, byte in, FIN out, FIN in. */
static void step(int poller, struct conn *conn) {
  char byte = 'x';
  if (conn->step == 0) {
    if (send(conn->fd, &byte, 1, MSG_NOSIGNAL) == 1) {
      conn->step = 1;
      watch(poller, conn, EPOLLIN, EPOLL_CTL_MOD);
      return;
    }
  } else {
    ssize_t n = recv(conn->fd, &byte, 1, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n == 1 && conn->step == 1) {
      conn->step = 2;
      shutdown(conn->fd, SHUT_WR);
      return;
    }
    if (n == 0 && conn->step == 2) conn->step = 3;
  }
  uint64_t now = tick(NULL);
  if (conn->counted && !done) {
    if (conn->step == 3) {
      count++;
      sample(now - conn->began);
    } else {
      errors++;
    }
  }
  close(conn->fd);
  dial(poller, conn);
}

static void new_connections(void) {
  struct epoll_event events[64];
  struct conn *all = calloc((size_t)connections, sizeof *all);
  int poller = epoll_create1(0);
  server.sin_port = htons(ECHO);
  for (int i = 0; i < connections; i++) dial(poller, &all[i]);
  while (!done) {
    int n = wait_events(poller, events, 64);
    for (int i = 0; i < n && !done; i++) step(poller, events[i].data.ptr);
    tick(NULL);
  }
}

static int udp_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
  server.sin_port = htons(ECHO);
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0) fail("connect");
  return fd;
}

/* A datagram carries when it was sent, and so whether that was within the measurement. */
static void send_stamped(int fd) {
  uint64_t now = now_ns();
  memcpy(piece, &now, sizeof now);
  if (send(fd, piece, (size_t)size, MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED) fail("send");
}

static int receive_stamped(int fd) {
  uint64_t began;
  if (recv(fd, piece, PIECE, MSG_DONTWAIT) < (ssize_t)sizeof began) return 0;
  memcpy(&began, piece, sizeof began);
  uint64_t now = tick(NULL);
  if (!measuring || done) return 1;
  count++;
  if (began >= measure_begun) sample(now - began);
  return 1;
}

static void datagrams(void) {
  int fd = udp_socket(), under_way = 0;
  struct pollfd ready = {fd, POLLIN, 0};
  while (!done) {
    for (; under_way < flight; under_way++) send_stamped(fd);
    if (poll(&ready, 1, 100) == 0) {
      lost += (uint64_t)under_way;
      under_way = 0;
    }
    while (under_way > 0 && receive_stamped(fd)) under_way--;
    tick(NULL);
  }
}

static void blast(void) {
  int fd = udp_socket();
  while (!done) {
    for (int i = 0; i < 16; i++) send_stamped(fd);
    while (!done && receive_stamped(fd)) continue;
    tick(NULL);
  }
}

static void ping(void) {
  struct { uint8_t type, code; uint16_t checksum, id, sequence; uint64_t began; char rest[48]; } echo;
  int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  uint16_t sequence = 0;
  if (fd < 0) fail("ping socket (net.ipv4.ping_group_range)");
  if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0) fail("connect");
  struct pollfd ready = {fd, POLLIN, 0};
  while (!done) {
    memset(&echo, 0, sizeof echo);
    echo.type = 8;
    echo.sequence = htons(++sequence);
    uint64_t began = now_ns();
    if (send(fd, &echo, sizeof echo, 0) < 0) fail("send");
    if (poll(&ready, 1, 100) == 0) lost++;
    else if (recv(fd, &echo, sizeof echo, 0) > 0 && measuring) {
      count++;
      sample(now_ns() - began);
    }
    tick(NULL);
  }
}

static void first_answer(void) {
  struct timespec t;
  /* Not connected: there may be no route yet, and an earlier refusal is no answer. */
  struct pollfd ready = {socket(AF_INET, SOCK_DGRAM, 0), POLLIN, 0};
  server.sin_port = htons(ECHO);
  for (int tries = 0; tries < 10000; tries++) {
    if (sendto(ready.fd, piece, 8, MSG_DONTWAIT, (struct sockaddr *)&server, sizeof server) < 0) {
      usleep(2000);
    } else if (poll(&ready, 1, 2) > 0 && recv(ready.fd, piece, PIECE, MSG_DONTWAIT) == 8) {
      clock_gettime(CLOCK_REALTIME, &t);
      printf("{\"value\":%.3f}\n", (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6);
      exit(0);
    }
  }
  errno = ETIMEDOUT;
  fail("no answer");
}

static void idle(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if ((rlim_t)connections + 16 > limit.rlim_cur) connections = (int)limit.rlim_cur - 16;
  /* Discard: an echo service has a buffer of its own for each connection, which is not the stack's. */
  struct conn *all = connect_all(DISCARD);
  printf("{\"value\":%d}\n", connections);
  fflush(stdout);
  while (read(0, piece, PIECE) > 0) continue;
  struct linger reset = {1, 0};
  for (int i = 0; i < connections; i++) {
    setsockopt(all[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(all[i].fd);
  }
  exit(0);
}

static void report(const char *mode) {
  int bulk = mode[0] == 'i' || mode[0] == 'o';
  double took = (double)(measure_ended - measure_begun) / 1e9;
  qsort(samples, sample_count, sizeof *samples, by_value);
  printf("{\"value\":%.6g", bulk ? (double)bytes * 8 / took / 1e9 : (double)count / took);
  if (sample_count > 0) {
    printf(",\"p50Us\":%.1f,\"p99Us\":%.1f", samples[(sample_count - 1) / 2] / 1e3, samples[(size_t)((double)(sample_count - 1) * 0.99)] / 1e3);
  }
  if (bulk) printf(",\"bytes\":%llu,\"retransmits\":%llu", (unsigned long long)bytes, (unsigned long long)retransmits);
  if (server_pid != 0) printf(",\"cpuSeconds\":%.3f", cpu_after - cpu_before);
  printf(",\"seconds\":%.3f,\"lost\":%llu,\"errors\":%llu}\n", took, (unsigned long long)lost, (unsigned long long)errors);
}

int main(int argc, char **argv) {
  int option;
  if (argc < 3) {
    fprintf(stderr, "usage: load MODE ADDRESS [-n connections] [-t seconds] [-w seconds] [-s bytes] [-f in flight] [-p pid]\n");
    return 2;
  }
  const char *mode = argv[1];
  server.sin_family = AF_INET;
  if (inet_pton(AF_INET, argv[2], &server.sin_addr) != 1) fail(argv[2]);
  optind = 3;
  while ((option = getopt(argc, argv, "n:t:w:s:f:p:")) != -1) {
    if (option == 'n') connections = atoi(optarg);
    else if (option == 't') seconds = atof(optarg);
    else if (option == 'w') warm_up = atof(optarg);
    else if (option == 's') size = atoi(optarg);
    else if (option == 'f') flight = atoi(optarg);
    else if (option == 'p') server_pid = atoi(optarg);
    else return 2;
  }
  if (connections < 1 || size < 1 || size > PIECE || flight < 1) return 2;
  memset(piece, 'x', PIECE);
  samples = malloc(SAMPLES * sizeof *samples);
  if (samples == NULL) fail("malloc");
  measure_from = now_ns() + (uint64_t)(warm_up * 1e9);
  if (strcmp(mode, "in") == 0) bulk(0);
  else if (strcmp(mode, "out") == 0) bulk(1);
  else if (strcmp(mode, "rr") == 0) round_trips();
  else if (strcmp(mode, "crr") == 0) new_connections();
  else if (strcmp(mode, "udp") == 0) datagrams();
  else if (strcmp(mode, "blast") == 0) blast();
  else if (strcmp(mode, "ping") == 0) ping();
  else if (strcmp(mode, "first") == 0) first_answer();
  else if (strcmp(mode, "idle") == 0) idle();
  else return 2;
  report(mode);
  return 0;
}
