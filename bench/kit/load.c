/* Thousands of WebSocket or SSE clients in one process, in C, so that the clients do not limit the
 * measurement. load.py starts it and documents its options and commands.
 *
 * It finds every frame by its header, and every event by its empty line, reads the record's number
 * at its fixed offset (record.py) and compares it with the number due in its partition; it passes
 * one whole record in CHECK_EVERY to load.py, which parses it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
    MAX_PARTITIONS = 16,
    CHECK_EVERY = 997,
    SPREAD_EVERY = 7,
    MAX_CHECKS = 1024,
    MAX_SAMPLES = 1 << 16,
    MAX_SPREADS = 4096,
    /* There are 28,000 ephemeral ports per source address; several addresses leave room. */
    CLIENTS_PER_ADDRESS = 10000,
    BUFFER = 1 << 18,
    /* Of the text of a position: three partitions of a short topic. */
    PLACE = 80,
    TICK_MS = 10,
};

enum phase { IDLE, CONNECTING, SECURING, UPGRADING, OPEN, CLOSED };

struct client {
    int socket, phase;
    SSL *tls;
    SSL_SESSION *session;
    unsigned char *rest; /* of an incomplete frame */
    size_t rest_bytes;
    int64_t due[MAX_PARTITIONS]; /* the number due in each partition; -1: any */
    int64_t frames, others, frames_before;
    int64_t began, upgraded, subscribed, caught_up; /* microseconds; 0: not yet */
    const char *token;
    int64_t has;           /* a bit for each of its keys that was in its snapshot */
    char place[PLACE];     /* the position that it was told last */
    int64_t back_at, lost; /* when to come back, and when the connection ended; 0: it is open */
};

/* How many clients received one record, and over which time. */
struct spread {
    int64_t number, first, last, count;
};

static struct {
    int port, clients, partitions, concurrency, address, bare, events, tls, sessions, prefix,
        suffix, p_at, n_at, n_digits, t_at, t_digits, stamp_at, sample, count, returning, snapshot;
    int64_t first_key;
    const char *request, *resume, *first;
} option = {.partitions = 3, .concurrency = 256, .sessions = 1, .sample = 61};

static struct {
    int64_t frames, others, gaps, duplicates, foreign, closed, failed, bytes, receives, reused,
        compressed, returned, longest_away;
} total;

static struct client *clients;
static char **tokens;
static int token_count, polling, under_way, next_to_open, waiting, wanted, away;
static char epoch[64];
static SSL_CTX *context;
static z_stream inflater;
static unsigned char buffer[BUFFER + (1 << 20)], plain[1 << 20];
static int check_count;
static char *checks[MAX_CHECKS];
static struct spread spreads[MAX_SPREADS];

/* Delays in microseconds: from the time in the record, and from the frame's timestamp. */
static struct samples {
    int64_t values[MAX_SAMPLES], stride, skipped;
    int count;
} from_write = {.stride = 1}, from_stamp = {.stride = 1};

static const char DATA[] = "{\"type\":\"data\",\"";

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t digits(const unsigned char *text, int count) {
    int64_t value = 0;
    for (int i = 0; i < count; i++)
        value = value * 10 + text[i] - '0';
    return value;
}

/* -- received messages --------------------------------------------------------------------- */

static void sample(struct samples *into, int64_t delay) {
    if (into->skipped++ % into->stride)
        return;
    if (into->count == MAX_SAMPLES) {
        /* Keep every second value, and take half as many from here on. */
        for (int i = 0; i < MAX_SAMPLES / 2; i++)
            into->values[i] = into->values[2 * i];
        into->count = MAX_SAMPLES / 2;
        into->stride *= 2;
    }
    into->values[into->count++] = delay;
}

/* A timestamp such as 2026-01-01T00:00:00.000Z, in microseconds. */
static int64_t timestamp(const unsigned char *text) {
    struct tm time = {.tm_year = (int)digits(text, 4) - 1900,
                      .tm_mon = (int)digits(text + 5, 2) - 1,
                      .tm_mday = (int)digits(text + 8, 2),
                      .tm_hour = (int)digits(text + 11, 2),
                      .tm_min = (int)digits(text + 14, 2),
                      .tm_sec = (int)digits(text + 17, 2)};
    return (int64_t)timegm(&time) * 1000000 + digits(text + 20, 3) * 1000;
}

static void spread(int64_t number, int64_t now) {
    struct spread *slot = &spreads[number / SPREAD_EVERY % MAX_SPREADS];
    if (slot->number != number || !slot->count)
        *slot = (struct spread){.number = number, .first = now};
    slot->last = now;
    slot->count++;
}

static void take_frame(struct client *client, int64_t now) {
    client->frames++;
    if (wanted && !client->caught_up && client->frames - client->frames_before >= wanted) {
        client->caught_up = now;
        waiting--;
    }
    total.frames++;
}

static void take_record(struct client *client, const unsigned char *payload, size_t size,
                        int64_t now) {
    const unsigned char *record = payload + option.prefix;
    take_frame(client, now);
    /* Timestamps are rounded down to milliseconds, on average by half of one. */
    if (option.stamp_at && total.frames % option.sample == 0)
        sample(&from_stamp, now - timestamp(record + option.stamp_at) - 500);
    if (option.count)
        return;
    int partition = record[option.p_at] - '0';
    int64_t number = digits(record + option.n_at, option.n_digits);
    if (partition < 0 || partition >= option.partitions)
        die("invalid partition: %d", partition);
    int64_t due = client->due[partition];
    if (due >= 0 && number > due)
        total.gaps += number - due;
    else if (due >= 0 && number < due)
        total.duplicates++;
    client->due[partition] = number + 1;
    if (total.frames % option.sample == 0)
        sample(&from_write, now - digits(record + option.t_at, option.t_digits));
    if (partition == 0 && number % SPREAD_EVERY == 0)
        spread(number, now);
    if (total.frames % CHECK_EVERY == 0 && check_count < MAX_CHECKS)
        checks[check_count++] = strndup((const char *)record, size - option.prefix - option.suffix);
}

static void send_raw(struct client *client, const void *data, size_t size);

/* Copy the text from the end of `name`, if the message has it, to the next quote. */
static void remember(struct client *client, const unsigned char *from, const unsigned char *past,
                     const char *name) {
    const unsigned char *at = memmem(from, (size_t)(past - from), name, strlen(name));
    if (!at)
        return;
    at += strlen(name);
    const unsigned char *end = memchr(at, '"', (size_t)(past - at));
    if (!end || end - at >= PLACE)
        die("not a position: %.*s", (int)(past - at), at);
    memcpy(client->place, at, (size_t)(end - at));
    client->place[end - at] = 0;
}

/* Follow what a message says of where and when this client goes on. */
static void follow(struct client *client, const unsigned char *payload, size_t size, int64_t now) {
    static const char AFTER[] = "\"after_ms\":";
    const unsigned char *past = payload + size;
    remember(client, size > PLACE ? past - PLACE : payload, past, "\"id\":\"");
    if (size > PLACE && !client->place[0])
        remember(client, payload, past, "\"position\":\"");
    const unsigned char *after = memmem(payload, size, AFTER, sizeof AFTER - 1);
    if (after && !memmem(payload, size, "\"data\"", 6))
        client->back_at = now + 1000 * atoi((const char *)after + sizeof AFTER - 1);
}

static int is_record(const unsigned char *payload, size_t size) {
    return size > option.prefix + sizeof DATA &&
           !memcmp(payload + option.prefix, DATA, sizeof DATA - 1);
}

static int begins(const unsigned char *payload, size_t size, const char *text) {
    return size > strlen(text) && !memcmp(payload, text, strlen(text));
}

/* A message of a snapshot, or the position at its end; 0: it is neither. */
static int take_snapshot(struct client *client, const unsigned char *payload, size_t size,
                         int64_t now) {
    static const char KEY[] = "\"key\":\"";
    if (begins(payload, size, "{\"type\":\"snapshot\"")) {
        const unsigned char *key = memmem(payload, size, KEY, sizeof KEY - 1);
        int64_t number = key ? atoll((const char *)key + sizeof KEY - 1) - option.first_key : -1;
        int64_t own = number - (client - clients) * option.snapshot;
        take_frame(client, now);
        if (own < 0 || own >= option.snapshot)
            total.foreign++;
        else
            client->has |= 1LL << own;
        return 1;
    }
    if (!begins(payload, size, "{\"type\":\"position\"") || client->caught_up)
        return 0;
    client->caught_up = now;
    waiting--;
    total.gaps += client->has != (1LL << option.snapshot) - 1;
    total.duplicates += client->frames > option.snapshot;
    return 1;
}

static void take_message(struct client *client, int first_byte, const unsigned char *payload,
                         size_t size, int64_t now) {
    if (option.count > 1 && (first_byte & 0x0f) < 8) {
        total.compressed += !!(first_byte & 0x40);
        take_frame(client, now);
        return;
    }
    if (first_byte & 0x40) {
        /* RFC 7692 section 7.2.2; without context takeover, messages are independent. */
        static const unsigned char TAIL[] = {0, 0, 0xff, 0xff};
        inflateReset(&inflater);
        inflater.next_out = plain;
        inflater.avail_out = sizeof plain;
        inflater.next_in = (unsigned char *)payload;
        inflater.avail_in = (uInt)size;
        inflate(&inflater, Z_SYNC_FLUSH);
        inflater.next_in = (unsigned char *)TAIL;
        inflater.avail_in = sizeof TAIL;
        if (inflate(&inflater, Z_SYNC_FLUSH) != Z_OK)
            die("a compressed message cannot be inflated");
        payload = plain;
        size = sizeof plain - inflater.avail_out;
        total.compressed++;
    }
    if (option.returning && (first_byte & 0x0f) == 1)
        follow(client, payload, size, now);
    if (option.snapshot && take_snapshot(client, payload, size, now))
        return;
    if (is_record(payload, size)) {
        /* A server with an envelope may join several messages, one per line. */
        const unsigned char *end;
        while (option.suffix && (end = memchr(payload, '\n', size))) {
            take_record(client, payload, (size_t)(end - payload), now);
            size -= (size_t)(end + 1 - payload);
            payload = end + 1;
            if (!is_record(payload, size))
                die("not a record: %.*s", (int)size, payload);
        }
        take_record(client, payload, size, now);
        return;
    }
    if ((first_byte & 0x0f) == 9) {
        static const unsigned char PONG[] = {0x8a, 0x80, 0, 0, 0, 0};
        send_raw(client, PONG, sizeof PONG);
    }
    if ((first_byte & 0x0f) == 8 && option.returning) {
        static const unsigned char CLOSE[] = {0x88, 0x80, 0, 0, 0, 0};
        send_raw(client, CLOSE, sizeof CLOSE);
    }
    total.others++;
    client->others++;
    if (!client->subscribed) {
        client->subscribed = now;
        if (!client->lost) {
            waiting -= !wanted && !option.snapshot;
        } else {
            int64_t gone = now - client->lost;
            total.longest_away = gone > total.longest_away ? gone : total.longest_away;
            total.returned++;
            client->lost = 0;
            away--;
        }
    }
}

/* -- connections --------------------------------------------------------------------------- */

static void watch(struct client *client, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)(client - clients)};
    if (epoll_ctl(polling, operation, client->socket, &event))
        die("epoll_ctl: %s", strerror(errno));
}

static void shut(struct client *client) {
    if (client->tls) {
        if (client->session)
            SSL_SESSION_free(client->session);
        client->session = option.sessions ? SSL_get1_session(client->tls) : NULL;
        /* OpenSSL does not resume the session of a connection that it considers aborted. */
        SSL_set_shutdown(client->tls, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(client->tls);
        client->tls = NULL;
    }
    close(client->socket);
    free(client->rest);
    client->rest = NULL;
    client->rest_bytes = 0;
}

static void lost(struct client *client) {
    if (option.returning && client->place[0]) {
        /* It comes back when it was told to, or soon. */
        int64_t now = now_us(), soon = now + 1000 * (client - clients) % 500000;
        if (client->phase != OPEN) {
            under_way--;
            total.failed++;
        }
        shut(client);
        client->phase = CLOSED;
        away += !client->lost;
        client->lost = client->lost ? client->lost : now;
        client->back_at = client->back_at > now ? client->back_at : soon;
        return;
    }
    if (client->phase != OPEN) {
        total.failed++;
        under_way--;
    } else {
        total.closed++;
    }
    if (wanted || option.snapshot ? !client->caught_up : !client->subscribed)
        waiting--;
    shut(client);
    client->phase = CLOSED;
}

static void send_raw(struct client *client, const void *data, size_t size) {
    long sent = client->tls ? SSL_write(client->tls, data, (int)size)
                            : send(client->socket, data, size, MSG_NOSIGNAL);
    if (sent != (long)size && client->tls)
        ERR_clear_error();
}

static void send_text(struct client *client, const char *text) {
    unsigned char frame[4096] = {0x81};
    size_t size = strlen(text), at = 2;
    if (size > 4000)
        die("first message too long: %zu bytes", size);
    if (size < 126) {
        frame[1] = 0x80 | (unsigned char)size;
    } else {
        frame[1] = 0x80 | 126;
        frame[at++] = (unsigned char)(size >> 8);
        frame[at++] = (unsigned char)size;
    }
    at += 4; /* a mask of zeros */
    memcpy(frame + at, text, size);
    send_raw(client, frame, at + size);
}

static void request(struct client *client) {
    char text[8192], resume[512] = "";
    if (client->place[0]) {
        snprintf(resume, sizeof resume, "&resume=%s", client->place);
    } else if (client->frames && epoch[0]) {
        int at = snprintf(resume, sizeof resume, "&resume=%s-", epoch);
        for (int p = 0; p < option.partitions; p++)
            at += snprintf(resume + at, sizeof resume - at, p ? ".%lld" : "%lld",
                           (long long)client->due[p]);
    } else if (option.resume) {
        snprintf(resume, sizeof resume, "&resume=%s", option.resume);
    }
    /* The given request, with token and position inserted. */
    int size = snprintf(text, sizeof text, option.request, resume, client->token);
    if (size >= (int)sizeof text)
        die("request too long: %d bytes", size);
    send_raw(client, text, (size_t)size);
    client->phase = UPGRADING;
}

static void opened(struct client *client) {
    client->phase = OPEN;
    under_way--;
    /* These servers send no "subscribed". */
    if (option.bare || option.count > 1) {
        client->subscribed = now_us();
        waiting--;
    }
}

static void begin(struct client *client) {
    if (option.bare)
        opened(client);
    else
        request(client);
}

static void begin_tls(struct client *client) {
    client->phase = SECURING;
    client->tls = SSL_new(context);
    SSL_set_fd(client->tls, client->socket);
    SSL_set_connect_state(client->tls);
    if (client->session)
        SSL_set_session(client->tls, client->session);
}

static void go_on(struct client *client) {
    if (client->phase == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->socket, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            lost(client);
            return;
        }
        watch(client, EPOLL_CTL_MOD, EPOLLIN);
        if (option.tls)
            begin_tls(client);
        else
            begin(client);
    }
    if (client->phase == SECURING) {
        int done = SSL_do_handshake(client->tls);
        if (done == 1) {
            total.reused += SSL_session_reused(client->tls);
            begin(client);
            return;
        }
        int error = SSL_get_error(client->tls, done);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            ERR_clear_error();
            lost(client);
        }
    }
}

static void open_client(struct client *client) {
    int number = (int)(client - clients), on = 1;
    client->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->socket < 0)
        die("socket: %s", strerror(errno));
    setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* The port is chosen on connect, so that one port can serve several destinations. */
    setsockopt(client->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    from.sin_addr.s_addr =
        htonl(0x7f000002u + (uint32_t)(option.address + number / CLIENTS_PER_ADDRESS));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)option.port);
    if (bind(client->socket, (void *)&from, sizeof from))
        die("bind: %s", strerror(errno));
    client->phase = CONNECTING;
    client->upgraded = client->subscribed = client->caught_up = 0;
    client->frames_before = client->frames;
    client->began = now_us();
    under_way++;
    int result = connect(client->socket, (void *)&to, sizeof to);
    if (result && errno != EINPROGRESS) {
        lost(client);
        return;
    }
    watch(client, EPOLL_CTL_ADD, EPOLLOUT);
}

/* -- reading ------------------------------------------------------------------------------- */

/* The size of the response's head, including the empty line; 0 if it is incomplete. */
static size_t head(const unsigned char *data, size_t size) {
    const unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
    return end ? (size_t)(end - data) + 4 : 0;
}

/* Process complete events (HTML standard, section 9.2.6; line ends are \n, data is one line). An
 * event's data counts once its empty line is there. */
static size_t take_events(struct client *client, const unsigned char *data, size_t size,
                          int64_t now) {
    static const char FIELD[] = "data: ";
    const unsigned char *line = data, *event = data, *payload = NULL, *end;
    size_t length = 0;
    while ((end = memchr(line, '\n', size - (size_t)(line - data)))) {
        size_t line_bytes = (size_t)(end - line);
        if (!line_bytes) {
            if (payload)
                take_message(client, 0x81, payload, length, now);
            payload = NULL;
            event = end + 1;
        } else if (line_bytes >= sizeof FIELD - 1 && !memcmp(line, FIELD, sizeof FIELD - 1)) {
            payload = line + sizeof FIELD - 1;
            length = line_bytes - (sizeof FIELD - 1);
        }
        line = end + 1;
    }
    return (size_t)(event - data);
}

/* Process complete frames or events; returns the number of bytes processed. */
static size_t take(struct client *client, const unsigned char *data, size_t size) {
    size_t at = 0;
    int64_t now = now_us();
    if (client->phase == UPGRADING) {
        at = head(data, size);
        if (!at)
            return 0;
        if (size < 12 || memcmp(data + 9, option.events ? "200" : "101", 3)) {
            lost(client);
            return size;
        }
        client->upgraded = now;
        opened(client);
        if (option.first)
            send_text(client, option.first);
    }
    if (option.events)
        return at + take_events(client, data + at, size - at, now);
    while (size - at >= 2) {
        uint64_t length = data[at + 1] & 0x7f;
        size_t begin = at + 2;
        if (length == 126) {
            if (size - at < 4)
                break;
            length = (uint64_t)data[at + 2] << 8 | data[at + 3];
            begin = at + 4;
        } else if (length == 127) {
            if (size - at < 10)
                break;
            length = 0;
            for (int i = 2; i < 10; i++)
                length = length << 8 | data[at + i];
            begin = at + 10;
        }
        if (length > size - begin || begin > size)
            break;
        take_message(client, data[at], data + begin, length, now);
        at = begin + length;
    }
    return at;
}

static long receive(struct client *client, unsigned char *into) {
    if (!client->tls)
        return recv(client->socket, into, BUFFER, 0);
    long got = SSL_read(client->tls, into, BUFFER);
    if (got > 0)
        return got;
    int error = SSL_get_error(client->tls, (int)got);
    ERR_clear_error();
    errno = error == SSL_ERROR_WANT_READ ? EAGAIN : ECONNRESET;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static void read_from(struct client *client) {
    do {
        if (client->rest_bytes)
            memcpy(buffer, client->rest, client->rest_bytes);
        long got = receive(client, buffer + client->rest_bytes);
        if (got <= 0) {
            if (got == 0 || (errno != EAGAIN && errno != EINTR))
                lost(client);
            return;
        }
        total.receives++;
        total.bytes += got;
        size_t size = client->rest_bytes + (size_t)got;
        size_t taken = take(client, buffer, size);
        if (client->phase == CLOSED)
            return;
        size_t left = size - taken;
        if (left > sizeof buffer - BUFFER)
            die("frame longer than %zu bytes", sizeof buffer - BUFFER);
        if (left != client->rest_bytes) {
            free(client->rest);
            client->rest = left ? malloc(left) : NULL;
        }
        if (left)
            memcpy(client->rest, buffer + taken, left);
        client->rest_bytes = left;
    } while (client->tls && SSL_pending(client->tls));
}

/* -- commands ------------------------------------------------------------------------------ */

static void print_numbers(const struct samples *samples) {
    for (int i = 0; i < samples->count; i++)
        printf(i ? ",%lld" : "%lld", (long long)samples->values[i]);
}

static void print_counts(void) {
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < option.clients; i++) {
        least = clients[i].frames < least ? clients[i].frames : least;
        most = clients[i].frames > most ? clients[i].frames : most;
    }
    printf("{\"clients\":%d,\"frames\":%lld,\"others\":%lld,\"gaps\":%lld,\"duplicates\":%lld,"
           "\"foreign\":%lld,\"closed\":%lld,\"failed\":%lld,\"bytes\":%lld,"
           "\"receives\":%lld,\"reused\":%lld,"
           "\"compressed\":%lld,\"away\":%d,\"returned\":%lld,\"longest_away_us\":%lld,"
           "\"least\":%lld,\"most\":%lld,\"delays\":[",
           option.clients, (long long)total.frames, (long long)total.others, (long long)total.gaps,
           (long long)total.duplicates, (long long)total.foreign, (long long)total.closed,
           (long long)total.failed,
           (long long)total.bytes, (long long)total.receives, (long long)total.reused,
           (long long)total.compressed, away, (long long)total.returned,
           (long long)total.longest_away, (long long)least, (long long)most);
    print_numbers(&from_write);
    printf("],\"delays_from_stamp\":[");
    print_numbers(&from_stamp);
    printf("],\"spreads\":[");
    for (int i = 0, some = 0; i < MAX_SPREADS; i++)
        if (spreads[i].count == option.clients)
            printf(some++ ? ",%lld" : "%lld", (long long)(spreads[i].last - spreads[i].first));
    printf("],\"samples\":[");
    for (int i = 0; i < check_count; i++) {
        printf(i ? ",%s" : "%s", checks[i]);
        free(checks[i]);
    }
    check_count = 0;
    printf("]}\n");
    fflush(stdout);
}

static void print_times(void) {
    static const char *NAMES[] = {"upgraded", "subscribed", "caught_up"};
    int64_t began = INT64_MAX;
    for (int i = 0; i < option.clients; i++)
        began = clients[i].began < began ? clients[i].began : began;
    for (int name = 0; name < 3; name++) {
        printf(name ? ",\"%s\":[" : "{\"%s\":[", NAMES[name]);
        for (int i = 0, some = 0; i < option.clients; i++) {
            struct client *c = &clients[i];
            int64_t at = name == 0 ? c->upgraded : name == 1 ? c->subscribed : c->caught_up;
            if (at)
                printf(some++ ? ",%lld" : "%lld", (long long)(at - began));
        }
        printf("]");
    }
    printf("}\n");
    fflush(stdout);
}

static void drop(void) {
    for (int i = 0; i < option.clients; i++)
        if (clients[i].phase != CLOSED) {
            shut(&clients[i]);
            clients[i].phase = CLOSED;
        }
    under_way = 0;
    printf("{\"dropped\":true}\n");
    fflush(stdout);
}

static void open_all(void) {
    static int64_t turn;
    for (int i = 0; i < option.clients; i++, turn++)
        clients[i].token = option.bare ? "" : tokens[turn % token_count];
    next_to_open = 0;
    waiting = option.clients;
}

/* Reconnect the clients whose time has come, as many at once as may. */
static void come_back(void) {
    int64_t now = now_us();
    for (int i = 0; i < option.clients && under_way < option.concurrency; i++) {
        struct client *client = &clients[i];
        if (client->phase == CLOSED && client->lost && client->back_at <= now) {
            client->back_at = 0;
            open_client(client);
        }
    }
}

static void obey(char *line) {
    if (!strcmp(line, "counts")) {
        print_counts();
    } else if (!strcmp(line, "restart")) {
        print_counts();
        from_write.count = from_stamp.count = 0;
        from_write.stride = from_stamp.stride = 1;
        memset(spreads, 0, sizeof spreads);
    } else if (!strcmp(line, "times")) {
        print_times();
    } else if (!strcmp(line, "drop")) {
        drop();
    } else if (sscanf(line, "again %63s %d", epoch, &wanted) == 2) {
        open_all();
    } else {
        die("unknown command: %s", line);
    }
}

/* Execute complete lines; returns 0 at the end of the input. */
static int obey_input(void) {
    static char text[4096];
    static size_t have;
    long got = read(0, text + have, sizeof text - 1 - have);
    if (got <= 0)
        return 0;
    have += (size_t)got;
    text[have] = 0;
    char *line = text, *end;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        obey(line);
        line = end + 1;
    }
    have -= (size_t)(line - text);
    memmove(text, line, have);
    return 1;
}

/* -- start --------------------------------------------------------------------------------- */

static void read_tokens(void) {
    /* One token per line, on stdin, before the first command; "." ends the list. */
    char *line = NULL;
    size_t room = 0;
    long got;
    while ((got = getline(&line, &room, stdin)) > 0 && strcmp(line, ".\n")) {
        line[got - 1] = 0;
        tokens = realloc(tokens, sizeof *tokens * (size_t)(token_count + 1));
        tokens[token_count++] = strdup(line);
    }
    free(line);
    if (!token_count)
        die("no token on stdin");
}

static void parse(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "port")) option.port = atoi(value);
        else if (!strcmp(name, "clients")) option.clients = atoi(value);
        else if (!strcmp(name, "partitions")) option.partitions = atoi(value);
        else if (!strcmp(name, "concurrency")) option.concurrency = atoi(value);
        else if (!strcmp(name, "address")) option.address = atoi(value);
        else if (!strcmp(name, "bare")) option.bare = atoi(value);
        else if (!strcmp(name, "events")) option.events = atoi(value);
        else if (!strcmp(name, "tls")) option.tls = atoi(value);
        else if (!strcmp(name, "sessions")) option.sessions = atoi(value);
        else if (!strcmp(name, "prefix")) option.prefix = atoi(value);
        else if (!strcmp(name, "suffix")) option.suffix = atoi(value);
        else if (!strcmp(name, "p_at")) option.p_at = atoi(value);
        else if (!strcmp(name, "n_at")) option.n_at = atoi(value);
        else if (!strcmp(name, "n_digits")) option.n_digits = atoi(value);
        else if (!strcmp(name, "t_at")) option.t_at = atoi(value);
        else if (!strcmp(name, "t_digits")) option.t_digits = atoi(value);
        else if (!strcmp(name, "stamp_at")) option.stamp_at = atoi(value);
        else if (!strcmp(name, "sample")) option.sample = atoi(value);
        else if (!strcmp(name, "count")) option.count = atoi(value);
        else if (!strcmp(name, "returning")) option.returning = atoi(value);
        else if (!strcmp(name, "snapshot")) option.snapshot = atoi(value);
        else if (!strcmp(name, "first_key")) option.first_key = atoll(value);
        else if (!strcmp(name, "request")) option.request = value;
        else if (!strcmp(name, "resume")) option.resume = value;
        else if (!strcmp(name, "first")) option.first = value;
        else die("unknown option: %s", name);
    }
    if (option.partitions > MAX_PARTITIONS)
        die("%d partitions exceed the maximum of %d", option.partitions, MAX_PARTITIONS);
}

int main(int argc, char **argv) {
    struct rlimit files;
    setvbuf(stdin, NULL, _IONBF, 0);
    /* OpenSSL writes without MSG_NOSIGNAL. */
    signal(SIGPIPE, SIG_IGN);
    parse(argc, argv);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (!option.bare)
        read_tokens();
    if (option.tls) {
        /* The server's identity does not matter here. */
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    }
    inflateInit2(&inflater, -15);
    polling = epoll_create1(0);
    clients = calloc((size_t)option.clients, sizeof *clients);
    for (int i = 0; i < option.clients; i++) {
        for (int p = 0; p < MAX_PARTITIONS; p++)
            clients[i].due[p] = option.resume ? 0 : -1;
    }
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = UINT32_MAX}, events[512];
    epoll_ctl(polling, EPOLL_CTL_ADD, 0, &input);
    open_all();
    for (int reported = 0;;) {
        while (next_to_open < option.clients && under_way < option.concurrency)
            open_client(&clients[next_to_open++]);
        if (next_to_open < option.clients || waiting) {
            reported = 0;
        } else if (!reported) {
            printf("{\"ready\":true,\"failed\":%lld}\n", (long long)total.failed);
            fflush(stdout);
            reported = 1;
        }
        if (away)
            come_back();
        int count = epoll_wait(polling, events, 512, away ? TICK_MS : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 == UINT32_MAX) {
                if (!obey_input())
                    return 0;
                /* The remaining events may belong to closed connections. */
                break;
            }
            struct client *client = &clients[events[i].data.u32];
            if (client->phase == CONNECTING || client->phase == SECURING)
                go_on(client);
            else if (client->phase != CLOSED)
                read_from(client);
        }
    }
}
