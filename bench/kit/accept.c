/* The minimum cost of a connection: accept it, with a certificate shake hands, read a request, and
 * write a 101 and one message, in C.
 *
 * It prints its port. It answers each line on stdin with the number of open connections, and ends
 * with stdin.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD = 8192 };

struct connection {
    int socket, secured, answered;
    SSL *tls;
    size_t size;
    char *head; /* of a request that is not complete */
};

static const char ANSWER[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    "\x81\x30{\"type\":\"subscribed\",\"streams\":[\"energy\"],\"x\":1}";

static int polling, listening, open_connections;
static SSL_CTX *context;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int socket, void *data) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(polling, EPOLL_CTL_ADD, socket, &event))
        die("accept: epoll_ctl");
}

static void accept_all(void) {
    int on = 1, accepted;
    while ((accepted = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->socket = accepted;
        connection->secured = !context;
        if (context) {
            connection->tls = SSL_new(context);
            SSL_set_fd(connection->tls, accepted);
            SSL_set_accept_state(connection->tls);
        }
        open_connections++;
        watch(accepted, connection);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept");
}

static void end(struct connection *connection) {
    if (connection->tls)
        SSL_free(connection->tls);
    close(connection->socket);
    free(connection->head);
    free(connection);
    open_connections--;
}

/* Whether to wait for more; otherwise the connection has ended. */
static int wants_more(struct connection *connection, int result) {
    if (!connection->tls)
        return result < 0 && errno == EAGAIN;
    int more = SSL_get_error(connection->tls, result) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return more;
}

static void serve(struct connection *connection) {
    static char buffer[HEAD];
    if (!connection->secured) {
        int result = SSL_do_handshake(connection->tls);
        if (result != 1) {
            if (!wants_more(connection, result))
                end(connection);
            return;
        }
        connection->secured = 1;
    }
    for (;;) {
        if (connection->size)
            memcpy(buffer, connection->head, connection->size);
        int left = (int)(sizeof buffer - connection->size);
        char *into = buffer + connection->size;
        int got = connection->tls ? SSL_read(connection->tls, into, left)
                                  : (int)recv(connection->socket, into, (size_t)left, 0);
        if (got <= 0) {
            if (!wants_more(connection, got))
                end(connection);
            return;
        }
        if (connection->answered)
            continue;
        size_t size = connection->size + (size_t)got;
        if (!memmem(buffer, size, "\r\n\r\n", 4)) {
            connection->head = realloc(connection->head, size);
            memcpy(connection->head, buffer, size);
            connection->size = size;
            continue;
        }
        connection->answered = 1;
        connection->size = 0;
        int bytes = sizeof ANSWER - 1;
        int sent = connection->tls ? SSL_write(connection->tls, ANSWER, bytes)
                                   : (int)send(connection->socket, ANSWER, bytes, MSG_NOSIGNAL);
        if (sent != bytes) {
            ERR_clear_error();
            end(connection);
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 1 && argc != 3) {
        fprintf(stderr, "usage: accept [CERTIFICATE KEY]\n");
        return 2;
    }
    /* OpenSSL writes without MSG_NOSIGNAL. */
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 3) {
        context = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1 ||
            SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1) {
            fprintf(stderr, "accept: %s and %s cannot be used\n", argv[1], argv[2]);
            return 1;
        }
        /* As in a worker (tls_context.py). */
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_num_tickets(context, 1);
        SSL_CTX_set_session_id_context(context, (const unsigned char *)"accept", 6);
    }
    listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    polling = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listening < 0 || polling < 0 || bind(listening, (void *)&address, size) ||
        listen(listening, 4096) || getsockname(listening, (void *)&address, &size))
        die("accept");
    watch(listening, &listening);
    watch(STDIN_FILENO, &polling);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(polling, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            char line[64];
            if (events[i].data.ptr == &listening) {
                accept_all();
            } else if (events[i].data.ptr == &polling) {
                if (read(STDIN_FILENO, line, sizeof line) <= 0)
                    return 0;
                printf("%d\n", open_connections);
                fflush(stdout);
            } else {
                serve(events[i].data.ptr);
            }
        }
    }
}
