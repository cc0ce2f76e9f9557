/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Parses single values of the configuration: numbers with units, names, paths, words and addresses.
 * It knows nothing of sections, lines or files, never asks a name server, and never reads past the
 * text's NUL. */

#include "shell/config_value.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool value_refuse(char why[TRACE_LINE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, TRACE_LINE, format, arguments);
    va_end(arguments);
    return false;
}

/* Decimal digits from *text on; moves *text behind them. False when there is none or the number is
 * too large. */
static bool take_digits(const char **text, uint64_t *number)
{
    const char *at = *text;
    uint64_t sum = 0;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(sum, 10u, &sum))
            return false;
        if (__builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum))
            return false;
    }
    *text = at;
    *number = sum;
    return true;
}

bool value_name(const char *text, char name[CONFIG_NAME_SIZE], char why[TRACE_LINE])
{
    static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(text);
    if (length == 0 || length >= CONFIG_NAME_SIZE || strspn(text, legal) != length)
        return value_refuse(why, "not a legal name; write 1 to %d of A-Z a-z 0-9 . _ -",
                            CONFIG_NAME_SIZE - 1);
    memcpy(name, text, length + 1);
    return true;
}

bool value_size(const char *text, uint64_t *bytes, char why[TRACE_LINE])
{
    static const char units[] = "KMGT";
    uint64_t number;
    const char *at = text;
    if (!take_digits(&at, &number))
        return value_refuse(why, "not a size; write a number with K, M, G or T, such as 20G");
    unsigned shift = 0;
    if (*at != '\0') {
        const char *unit = strchr(units, *at & ~0x20);
        if (!unit || at[1] != '\0')
            return value_refuse(
                why, "\"%.20s\" is not a unit of size; write K, M, G or T, such as 20G", at);
        shift = 10 * (unsigned)(unit - units + 1);
    }
    /* The kernel's offsets are signed. */
    if (number > (uint64_t)INT64_MAX >> shift)
        return value_refuse(why, "too large; the most is below 8388608T");
    *bytes = number << shift;
    return true;
}

static void print_time(char text[16], uint32_t ms)
{
    if (ms % 1000 == 0)
        snprintf(text, 16, "%us", ms / 1000);
    else
        snprintf(text, 16, "%ums", ms);
}

bool value_time(const char *text, uint32_t *ms, uint32_t low_ms, uint32_t high_ms,
                char why[TRACE_LINE])
{
    char low[16], high[16];
    print_time(low, low_ms);
    print_time(high, high_ms);
    uint64_t number, factor;
    const char *at = text;
    if (!take_digits(&at, &number))
        return value_refuse(why, "not a time; write %s to %s, with ms or s", low, high);
    if (strcmp(at, "ms") == 0)
        factor = 1;
    else if (strcmp(at, "s") == 0)
        factor = 1000;
    else if (*at == '\0')
        return value_refuse(why, "a time without its unit; write ms or s behind the number");
    else
        return value_refuse(why, "\"%.20s\" is not a unit of time; write ms or s", at);
    if (number > UINT32_MAX || number * factor < low_ms || number * factor > high_ms)
        return value_refuse(why, "out of range; write %s to %s", low, high);
    *ms = (uint32_t)(number * factor);
    return true;
}

bool value_percent(const char *text, uint8_t *percent, uint32_t high, char why[TRACE_LINE])
{
    uint64_t number;
    const char *at = text;
    if (!take_digits(&at, &number) || number < 1 || number > high)
        return value_refuse(why, "not a share of the cache for this; write 1%% to %u%%", high);
    if (strcmp(at, "%") != 0 && *at != '\0')
        return value_refuse(why, "\"%.20s\" behind the number; write 1%% to %u%%", at, high);
    *percent = (uint8_t)number;
    return true;
}

bool value_number(const char *text, uint32_t *number, uint32_t low, uint32_t high,
                  char why[TRACE_LINE])
{
    uint64_t value;
    const char *at = text;
    if (!take_digits(&at, &value) || *at != '\0' || value < low || value > high)
        return value_refuse(why, "not a number in range; write %u to %u", low, high);
    *number = (uint32_t)value;
    return true;
}

bool value_microseconds(const char *text, uint32_t *us, uint32_t high_us, char why[TRACE_LINE])
{
    uint64_t value;
    const char *at = text;
    bool number = take_digits(&at, &value);
    bool unit = number && (strcmp(at, "us") == 0 || (value == 0 && *at == '\0'));
    if (!unit || value > high_us)
        return value_refuse(why, "not a time for this; write 0 or 1us to %uus", high_us);
    *us = (uint32_t)value;
    return true;
}

bool value_path(const char *text, char *path, size_t size, char why[TRACE_LINE])
{
    if (text[0] != '/')
        return value_refuse(why, "not an absolute path; start it with /");
    size_t length = strlen(text);
    if (length >= size)
        return value_refuse(why, "a path of %zu bytes; the most here is %zu", length, size - 1);
    memcpy(path, text, length + 1);
    return true;
}

int value_word(const char *text, const char *const *words, char why[TRACE_LINE])
{
    char list[TRACE_LINE / 2] = "";
    size_t used = 0;
    for (int i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? " or " : "",
                                     words[i]);
    }
    value_refuse(why, "not a choice here; write %s", list);
    return -1;
}

bool value_secret(const char *text, char secret[CONFIG_SECRET_SIZE], char why[TRACE_LINE])
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return value_refuse(why, "holds something other than printable ASCII");
    if (length < CONFIG_SECRET_MIN)
        return value_refuse(why, "%zu characters are too few; write %d to %d", length,
                            CONFIG_SECRET_MIN, CONFIG_SECRET_SIZE - 1);
    if (length >= CONFIG_SECRET_SIZE)
        return value_refuse(why, "%zu characters are too many; write %d to %d", length,
                            CONFIG_SECRET_MIN, CONFIG_SECRET_SIZE - 1);
    memcpy(secret, text, length + 1);
    return true;
}

/* ---- lists and iSCSI names ---- */

int value_list_next(struct value_list *list, char *item, size_t size, uint32_t limit,
                    const char *what, char why[TRACE_LINE])
{
    if (!list->at)
        return 0;
    const char *at = list->at + strspn(list->at, " \t");
    size_t length = strcspn(at, ",");
    const char *next = at[length] == ',' ? at + length + 1 : NULL;
    while (length > 0 && (at[length - 1] == ' ' || at[length - 1] == '\t'))
        length--;
    if (list->index == limit)
        value_refuse(why, "more than %u %s", limit, what);
    else if (length == 0)
        value_refuse(why, "an empty place in the list; separate %s with one comma", what);
    else if (length >= size)
        value_refuse(why, "number %u of the %s is too long", list->index + 1, what);
    else {
        memcpy(item, at, length);
        item[length] = '\0';
        list->at = next;
        list->index++;
        return 1;
    }
    return -1;
}

/* So many hexadecimal digits, or so many, and nothing else. */
static bool all_hexadecimal(const char *text, size_t one_length, size_t other_length)
{
    size_t length = strspn(text, "0123456789abcdef");
    return text[length] == '\0' && (length == one_length || length == other_length);
}

bool value_iscsi_name(const char *text, char name[CONFIG_INITIATOR_SIZE], char why[TRACE_LINE])
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyz0123456789.-:";
    size_t length = strlen(text);
    bool iqn = strncmp(text, "iqn.", 4) == 0 && length > 4;
    bool eui = strncmp(text, "eui.", 4) == 0 && all_hexadecimal(text + 4, 16, 16);
    bool naa = strncmp(text, "naa.", 4) == 0 && all_hexadecimal(text + 4, 16, 32);
    if (length >= CONFIG_INITIATOR_SIZE || strspn(text, legal) != length || (!iqn && !eui && !naa))
        return value_refuse(
            why,
            "\"%.40s\" is not an iSCSI name; write one like iqn.2004-10.com.example:host, of "
            "a-z 0-9 . - : and at most %d bytes",
            text, CONFIG_INITIATOR_SIZE - 1);
    memcpy(name, text, length + 1);
    return true;
}

bool value_user(const char *text, char user[CONFIG_INITIATOR_SIZE], char why[TRACE_LINE])
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] <= 0x20 || text[i] > 0x7e)
            return value_refuse(why, "a CHAP name is printable ASCII without blanks");
    if (length == 0 || length >= CONFIG_INITIATOR_SIZE)
        return value_refuse(why, "%zu characters; write 1 to %d", length,
                            CONFIG_INITIATOR_SIZE - 1);
    memcpy(user, text, length + 1);
    return true;
}

bool value_lun(const char *text, char name[CONFIG_NAME_SIZE], int *lun, bool *read_only,
               char why[TRACE_LINE])
{
    size_t length = strcspn(text, "@:");
    const char *at = text + length;
    char only[CONFIG_NAME_SIZE];
    if (length >= sizeof only)
        return value_refuse(why, "\"%.40s\": the name is longer than any volume's", text);
    memcpy(only, text, length);
    only[length] = '\0';
    char ignored[TRACE_LINE];
    if (!value_name(only, name, ignored))
        return value_refuse(why,
                            "\"%.40s\" does not begin with a volume's name; write NAME, "
                            "NAME@LUN, NAME:ro or NAME@LUN:ro",
                            text);
    *lun = -1;
    *read_only = false;
    if (*at == '@') {
        uint64_t number;
        at++;
        if (!take_digits(&at, &number) || number >= CONFIG_LUN_LIMIT || (*at != '\0' && *at != ':'))
            return value_refuse(why, "\"%.40s\": the LUN is not a number; write 0 to %d", text,
                                CONFIG_LUN_LIMIT - 1);
        *lun = (int)number;
    }
    if (*at == ':') {
        if (strcmp(at, ":ro") != 0)
            return value_refuse(why, "\"%.40s\": only :ro (read-only) can follow", text);
        *read_only = true;
    }
    return true;
}

/* ---- addresses ---- */

static bool parse_unix(const char *text, struct address *address, char why[TRACE_LINE])
{
    if (!value_path(text + strlen("unix:"), address->path, sizeof address->path, why))
        return false;
    address->kind = ADDRESS_UNIX;
    return true;
}

/* `host` in the one spelling that equal addresses share. A scope ("%eth0") stays as it is. */
static bool canonical_host(char host[ADDRESS_HOST_SIZE], bool six)
{
    struct in6_addr bytes;
    char scope[ADDRESS_HOST_SIZE] = "";
    char *percent = strchr(host, '%');
    if (percent) {
        if (!six || percent[1] == '\0')
            return false;
        snprintf(scope, sizeof scope, "%s", percent);
        *percent = '\0';
    }
    int family = six ? AF_INET6 : AF_INET;
    if (inet_pton(family, host, &bytes) != 1)
        return false;
    char canonical[INET6_ADDRSTRLEN];
    if (!inet_ntop(family, &bytes, canonical, sizeof canonical))
        return false;
    size_t length = strlen(canonical), scope_length = strlen(scope);
    if (length + scope_length >= ADDRESS_HOST_SIZE)
        return false;
    memcpy(host, canonical, length);
    memcpy(host + length, scope, scope_length + 1);
    return true;
}

static bool parse_ip(const char *text, struct address *address, char why[TRACE_LINE])
{
    bool six = text[0] == '[';
    const char *host = six ? text + 1 : text;
    const char *host_end = six ? strchr(text, ']') : strrchr(text, ':');
    if (six && !host_end)
        return value_refuse(why, "the ] of the IPv6 address is missing; write [::1]:PORT");
    if (!host_end || host_end[six] != ':')
        return value_refuse(why, "no port; write ADDRESS:PORT, [IPV6]:PORT or unix:/PATH");
    if (!six && memchr(host, ':', (size_t)(host_end - host)))
        return value_refuse(why, "an IPv6 address stands in brackets; write [::1]:PORT");
    if (host_end == host || host_end - host >= ADDRESS_HOST_SIZE)
        return value_refuse(why, "no address before the port; write 127.0.0.1:PORT or [::1]:PORT");
    memcpy(address->host, host, (size_t)(host_end - host));
    address->host[host_end - host] = '\0';
    if (!canonical_host(address->host, six))
        return value_refuse(
            why,
            "the host is not a numeric %s address; names are not looked up here, write "
            "one like %s",
            six ? "IPv6" : "IPv4", six ? "[::1]:PORT" : "127.0.0.1:PORT");
    uint32_t port;
    char number_why[TRACE_LINE];
    if (!value_number(host_end + six + 1, &port, 1, UINT16_MAX, number_why))
        return value_refuse(why, "the port is not a number; write 1 to %d", UINT16_MAX);
    address->port = (uint16_t)port;
    address->kind = ADDRESS_IP;
    return true;
}

bool address_parse(const char *text, struct address *address, char why[TRACE_LINE])
{
    struct address parsed = {.kind = ADDRESS_NONE};
    if (strlen(text) >= sizeof parsed.text)
        return value_refuse(
            why, "longer than any address; write ADDRESS:PORT, [IPV6]:PORT or unix:/PATH");
    memcpy(parsed.text, text, strlen(text) + 1);
    bool good = strncmp(text, "unix:", strlen("unix:")) == 0 ? parse_unix(text, &parsed, why)
                                                             : parse_ip(text, &parsed, why);
    if (good)
        *address = parsed;
    return good;
}
