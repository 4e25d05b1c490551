/* The minimum cost of a fan-out: one send() per client, in C, of frames built once; with a
 * certificate, one SSL_write().
 *
 * It prints its port and accepts as many connections as its first argument says. Then it reads
 * lines "SECONDS RATE BYTES" from stdin: for SECONDS it sends RATE frames a second with BYTES of
 * payload to every client. It answers each line with "SENDS SHORT USER_MICROSECONDS
 * SYSTEM_MICROSECONDS": the number of sends, of sends that did not write the whole frame, and its
 * CPU time.
 *
 * The frames are those of record.py, so that the same clients can check them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *ENVELOPE =
    "{\"type\":\"data\",\"stream\":\"energy\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"data\":";
static const char *TAIL = "\"},\"id\":\"01234567-99999999.99999999.99999999\"}";

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static int64_t microseconds(struct timeval time) {
    return (int64_t)time.tv_sec * 1000000 + time.tv_usec;
}

/* A text frame (RFC 6455 section 5.2) with record `number` of `partition`; returns its size. */
static size_t build(char *frame, int bytes, int partition, int number) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *payload = frame + 4;
    int length = sprintf(payload, "%s{\"p\":\"%d\",\"n\":\"%08d\",\"t\":\"%016lld\",\"pad\":\"",
                         ENVELOPE, partition, number,
                         (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    int pad = bytes - length - (int)strlen(TAIL);
    if (pad < 0)
        pad = 0;
    memset(payload + length, 'x', pad);
    strcpy(payload + length + pad, TAIL);
    length += pad + (int)strlen(TAIL);
    frame[0] = (char)0x81;
    frame[1] = 126;
    frame[2] = (char)(length >> 8);
    frame[3] = (char)(length & 0xff);
    return 4 + (size_t)length;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: limit CLIENTS [CERTIFICATE KEY]\n");
        return 2;
    }
    int clients = atoi(argv[1]);
    int *sockets = calloc(clients, sizeof *sockets);
    SSL **secured = NULL;
    SSL_CTX *context = NULL;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 4) {
        secured = calloc(clients, sizeof *secured);
        context = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(context, argv[2]) != 1 ||
            SSL_CTX_use_PrivateKey_file(context, argv[3], SSL_FILETYPE_PEM) != 1) {
            fprintf(stderr, "limit: %s and %s cannot be used\n", argv[2], argv[3]);
            return 1;
        }
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    }
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (!sockets || listening < 0 || bind(listening, (void *)&address, size) ||
        listen(listening, 4096) || getsockname(listening, (void *)&address, &size)) {
        perror("limit");
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < clients; i++) {
        int on = 1;
        sockets[i] = accept(listening, NULL, NULL);
        if (sockets[i] < 0) {
            perror("limit: accept");
            return 1;
        }
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (context) {
            secured[i] = SSL_new(context);
            SSL_set_fd(secured[i], sockets[i]);
            if (SSL_accept(secured[i]) != 1) {
                fprintf(stderr, "limit: a TLS handshake failed\n");
                return 1;
            }
        }
        fcntl(sockets[i], F_SETFL, O_NONBLOCK);
    }

    static char frame[1 << 17];
    double duration, rate;
    int bytes, sent = 0;
    while (scanf("%lf %lf %d", &duration, &rate, &bytes) == 3) {
        long long sends = 0, shorts = 0;
        int count = (int)(duration * rate);
        double began = seconds();
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        for (int i = 0; i < count; i++, sent++) {
            double wait = began + i / rate - seconds();
            if (wait > 0)
                usleep((useconds_t)(wait * 1e6));
            size_t length = build(frame, bytes, sent % 3, sent / 3);
            for (int client = 0; client < clients; client++) {
                ssize_t taken = secured ? SSL_write(secured[client], frame, (int)length)
                                        : send(sockets[client], frame, length, MSG_NOSIGNAL);
                shorts += taken != (ssize_t)length;
                sends++;
            }
        }
        getrusage(RUSAGE_SELF, &after);
        printf("%lld %lld %lld %lld\n", sends, shorts,
               (long long)(microseconds(after.ru_utime) - microseconds(before.ru_utime)),
               (long long)(microseconds(after.ru_stime) - microseconds(before.ru_stime)));
        fflush(stdout);
    }
    return 0;
}
