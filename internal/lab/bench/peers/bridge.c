/* The same as bridge.py on libmosquitto, and a subscriber ("count") that shows
 * what the broker alone takes. The environment says what goes where; see
 * traffic.env in payload.go. */
#include <arpa/inet.h>
#include <mosquitto.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_GROUPS = 65536, HEADER = 16 };

static int qos, groups, sources, group_port;
static uint32_t group, source; /* host byte order */
static int sockets[MOST_GROUPS];
static struct sockaddr_in targets[MOST_GROUPS];

static const char *need(const char *name) {
	const char *value = getenv(name);
	if (!value) {
		fprintf(stderr, "%s is not set\n", name);
		exit(2);
	}
	return value;
}

static int number(const char *name) { return atoi(need(name)); }

static uint32_t address(const char *name) {
	struct in_addr a;
	if (inet_pton(AF_INET, need(name), &a) != 1) {
		fprintf(stderr, "%s is no address\n", name);
		exit(2);
	}
	return ntohl(a.s_addr);
}

static void check(int failed, const char *what) {
	if (failed) {
		perror(what);
		exit(1);
	}
}

/* --- send --- */

static void open_senders(void) {
	for (int i = 0; i < sources; i++) {
		struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source + i)};
		sockets[i] = socket(AF_INET, SOCK_DGRAM, 0);
		check(sockets[i] < 0, "socket");
		check(bind(sockets[i], (struct sockaddr *)&local, sizeof local), "bind");
		check(setsockopt(sockets[i], IPPROTO_IP, IP_MULTICAST_IF, &local.sin_addr, sizeof local.sin_addr), "IP_MULTICAST_IF");
	}
	for (int i = 0; i < groups; i++)
		targets[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(group_port), .sin_addr.s_addr = htonl(group + i)};
}

static void on_connect(struct mosquitto *m, void *user, int code) {
	(void)user;
	if (code == 0)
		mosquitto_subscribe(m, NULL, "dev/#", qos);
}

static void on_message(struct mosquitto *m, void *user, const struct mosquitto_message *msg) {
	(void)m, (void)user;
	int i = groups == 1 ? 0 : atoi(msg->topic + strlen("dev/")) % groups;
	sendto(sockets[i % sources], msg->payload, msg->payloadlen, 0, (struct sockaddr *)&targets[i], sizeof targets[i]);
}

/* --- receive --- */

static void receive(struct mosquitto *m) {
	const char *topic = need("TOPIC");
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(group_port)};
	if (groups == 1)
		local.sin_addr.s_addr = htonl(group);
	check(fd < 0, "socket");
	check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "SO_REUSEADDR");
	check(bind(fd, (struct sockaddr *)&local, sizeof local), "bind");
	for (int i = 0; i < groups; i++) {
		struct ip_mreq join = {{htonl(group + i)}, {htonl(address("INTERFACE"))}};
		check(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), "IP_ADD_MEMBERSHIP");
	}
	mosquitto_max_inflight_messages_set(m, 1000);
	mosquitto_loop_start(m);
	for (;;) {
		char buffer[2048];
		ssize_t n = recv(fd, buffer, sizeof buffer, 0);
		if (n >= 0)
			mosquitto_publish(m, NULL, topic, n, buffer, qos, false);
	}
}

/* --- count: what the tool "device" says, from a subscriber --- */

static uint64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static uint64_t read64(const uint8_t *p) {
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static double *latencies; /* microseconds */
static int want, have, probed;
static uint64_t first;

static int by_value(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void on_count(struct mosquitto *m, void *user, const struct mosquitto_message *msg) {
	(void)m, (void)user;
	const uint8_t *p = msg->payload;
	uint64_t now = now_ns();
	if (msg->payloadlen < HEADER)
		return;
	if (p[0] & 0x80) { /* a probe */
		if (!probed++)
			printf("{\"event\":\"probed\",\"at\":%llu}\n", (unsigned long long)now);
		return;
	}
	if (have == 0)
		first = now;
	if (have < want)
		latencies[have++] = (now - read64(p + 8)) / 1e3;
	if (have < want)
		return;
	qsort(latencies, have, sizeof *latencies, by_value);
	printf("{\"event\":\"counted\",\"at\":%llu,\"result\":{\"in_order\":%d,\"seconds\":%.6f,\"p50_us\":%.1f,\"p99_us\":%.1f}}\n",
	       (unsigned long long)now, have, (now - first) / 1e9, latencies[(have - 1) / 2], latencies[(int)((have - 1) * 0.99)]);
	have = want = 0;
}

int main(int argc, char **argv) {
	if (argc != 2)
		return 2;
	qos = number("QOS");
	groups = number("GROUPS");
	sources = number("SOURCES");
	group = address("GROUP");
	group_port = number("GROUP_PORT");
	source = address("SOURCE");
	if (groups < 1 || groups > MOST_GROUPS || sources < 1 || sources > MOST_GROUPS)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	mosquitto_lib_init();
	struct mosquitto *m = mosquitto_new(NULL, true, NULL);
	mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1);
	if (!strcmp(argv[1], "send")) {
		open_senders();
		mosquitto_message_callback_set(m, on_message);
		mosquitto_connect_callback_set(m, on_connect);
	} else if (!strcmp(argv[1], "count")) {
		want = number("WANT");
		latencies = calloc(want, sizeof *latencies);
		check(!latencies, "calloc");
		mosquitto_message_callback_set(m, on_count);
		mosquitto_connect_callback_set(m, on_connect);
	}
	if (mosquitto_connect(m, need("BROKER"), number("PORT"), 60) != MOSQ_ERR_SUCCESS)
		return 1;
	if (!strcmp(argv[1], "receive"))
		receive(m);
	return mosquitto_loop_forever(m, -1, 1) != MOSQ_ERR_SUCCESS;
}
