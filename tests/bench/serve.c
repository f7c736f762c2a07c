/*
 * The services that `deno task bench` asks (echo 7, discard 9, chargen 19 by TCP; echo 7 by UDP) on the kernel's own sockets,
 * in C where there is a compiler, so that "kernel" means the kernel. tests/bench/kernel_server.ts is the same in TypeScript.
 * One thread; prints "ready" and serves until it is ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (256 * 1024)
#define BATCH 64
#define DATAGRAM 2048
enum kind { LISTEN, STREAM, DATAGRAMS };

struct end {
  int fd;
  enum kind kind;
  int port;
  /* What an echo could not write yet. */
  char *waiting;
  size_t from, to;
};

static int poller;
static char piece[PIECE];

static void watch(struct end *end, uint32_t events, int how) {
  struct epoll_event event = {events, {.ptr = end}};
  epoll_ctl(poller, how, end->fd, &event);
}

static struct end *add(int fd, enum kind kind, int port, uint32_t events) {
  struct end *end = calloc(1, sizeof *end);
  if (end == NULL) exit(1);
  end->fd = fd;
  end->kind = kind;
  end->port = port;
  watch(end, events, EPOLL_CTL_ADD);
  return end;
}

static void open_port(int type, int port, enum kind kind) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), one = 1, room = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (type == SOCK_DGRAM) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || (type == SOCK_STREAM && listen(fd, 4096) != 0)) {
    perror("serve");
    exit(1);
  }
  add(fd, kind, port, EPOLLIN);
}

static void accept_all(const struct end *listener) {
  for (;;) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), one = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    add(fd, STREAM, listener->port, listener->port == 19 ? EPOLLOUT : EPOLLIN);
  }
}

static void drop(struct end *end) {
  close(end->fd);
  free(end->waiting);
  free(end);
}

/* Echoes what there is; what the client doesn't take yet is kept, and nothing more is read meanwhile. */
static int echo(struct end *end) {
  if (end->from == end->to) {
    ssize_t n = recv(end->fd, piece, PIECE, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    ssize_t sent = send(end->fd, piece, (size_t)n, MSG_NOSIGNAL);
    if (sent == n) return 1;
    if (sent < 0 && errno != EAGAIN) return 0;
    if (end->waiting == NULL && (end->waiting = malloc(PIECE)) == NULL) return 0;
    end->from = 0;
    end->to = (size_t)(n - (sent < 0 ? 0 : sent));
    memcpy(end->waiting, piece + (n - (ssize_t)end->to), end->to);
    watch(end, EPOLLOUT, EPOLL_CTL_MOD);
    return 1;
  }
  ssize_t sent = send(end->fd, end->waiting + end->from, end->to - end->from, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN;
  end->from += (size_t)sent;
  if (end->from == end->to) watch(end, EPOLLIN, EPOLL_CTL_MOD);
  return 1;
}

static void echo_datagrams(int fd) {
  static char bytes[BATCH][DATAGRAM];
  static struct mmsghdr messages[BATCH];
  static struct sockaddr_in from[BATCH];
  static struct iovec pieces[BATCH];
  for (int i = 0; i < BATCH; i++) {
    pieces[i] = (struct iovec){bytes[i], DATAGRAM};
    messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &pieces[i], .msg_iovlen = 1};
  }
  int n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
  for (int i = 0; i < n; i++) pieces[i].iov_len = messages[i].msg_len;
  if (n > 0) sendmmsg(fd, messages, (unsigned)n, MSG_DONTWAIT);
}

static void serve(struct end *end) {
  int alive = 1;
  if (end->kind == LISTEN) accept_all(end);
  else if (end->kind == DATAGRAMS) echo_datagrams(end->fd);
  else if (end->port == 7) alive = echo(end);
  else {
    ssize_t n = end->port == 9 ? recv(end->fd, piece, PIECE, 0) : send(end->fd, piece, PIECE, MSG_NOSIGNAL);
    alive = n > 0 || (n < 0 && errno == EAGAIN);
  }
  if (!alive) drop(end);
}

int main(void) {
  struct epoll_event events[256];
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  for (int i = 0; i < PIECE; i++) piece[i] = (char)(32 + i % 95);
  poller = epoll_create1(0);
  open_port(SOCK_STREAM, 7, LISTEN);
  open_port(SOCK_STREAM, 9, LISTEN);
  open_port(SOCK_STREAM, 19, LISTEN);
  open_port(SOCK_DGRAM, 7, DATAGRAMS);
  puts("ready kernel");
  fflush(stdout);
  for (;;) {
    int n = epoll_wait(poller, events, 256, -1);
    for (int i = 0; i < n; i++) serve(events[i].data.ptr);
  }
}
