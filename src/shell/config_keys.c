/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which keys each section takes, and where each value goes: a table a section, a small function a
 * key. A setter touches nothing but its own field, and never looks at another key: config_check.c
 * does. */

#include "shell/config_read.h"
#include "shell/config_value.h"

#include <string.h>

#define SETTER(key)                                                                                \
    static bool set_##key(struct config_read *read, uint32_t index, const char *text,              \
                          char why[TRACE_LINE])

SETTER(name)
{
    return value_name(text, read->config->name, why);
}

SETTER(secret)
{
    return value_secret(text, read->config->secret, why);
}

SETTER(register)
{
    return value_path(text, read->config->register_path, CONFIG_PATH_SIZE, why);
}

SETTER(cache)
{
    uint64_t bytes;
    if (!value_size(text, &bytes, why))
        return false;
    if (bytes < CONFIG_CACHE_MIN || bytes > CONFIG_CACHE_MAX)
        return value_refuse(why, "out of range; write 1M to 1T");
    if (bytes % PAGE_SIZE_BYTES != 0)
        return value_refuse(
            why, "not a multiple of 4096 bytes; the nearest below is %lluK",
            (unsigned long long)(bytes / PAGE_SIZE_BYTES * (PAGE_SIZE_BYTES / 1024)));
    read->config->cache_bytes = bytes;
    return true;
}

SETTER(lease)
{
    return value_time(text, &read->config->lease_ms, 100, 60 * 1000, why);
}

SETTER(settle)
{
    return value_time(text, &read->config->settle_ms, 0, 60 * 1000, why);
}

SETTER(giveback)
{
    static const char *const words[] = {"manual", "auto", NULL};
    int word = value_word(text, words, why);
    read->config->auto_giveback = word == 1;
    return word >= 0;
}

SETTER(dirty_low)
{
    return value_percent(text, &read->config->dirty_low_percent, CONFIG_DIRTY_PERCENT - 1, why);
}

SETTER(dirty_high)
{
    return value_percent(text, &read->config->dirty_high_percent, CONFIG_DIRTY_PERCENT, why);
}

SETTER(destage_after)
{
    return value_time(text, &read->config->destage_after_ms, 10, 3600 * 1000, why);
}

/* Where the peer connects: a TCP address of this machine, not "any". */
static bool set_peer_address(struct address *to, const char *text, char why[TRACE_LINE])
{
    struct address address;
    if (!address_parse(text, &address, why))
        return false;
    if (address.kind != ADDRESS_IP)
        return value_refuse(
            why, "the other controller connects here by TCP; write ADDRESS:PORT or [IPV6]:PORT");
    if (strcmp(address.host, "0.0.0.0") == 0 || strcmp(address.host, "::") == 0)
        return value_refuse(
            why, "the other controller connects here, so \"any\" is no answer; write this "
                 "controller's own address");
    *to = address;
    return true;
}

SETTER(link)
{
    return set_peer_address(&read->config->controllers[index].link, text, why);
}

SETTER(warden)
{
    return set_peer_address(&read->config->controllers[index].warden, text, why);
}

SETTER(nbd)
{
    struct config_controller *controller = &read->config->controllers[index];
    struct value_list list = {.at = text};
    char one[ADDRESS_TEXT_SIZE];
    int more;
    controller->nbd_count = 0;
    while ((more = value_list_next(&list, one, sizeof one, CONFIG_NBD_LIMIT, "addresses", why)) >
           0) {
        if (!address_parse(one, &controller->nbd[controller->nbd_count], why))
            return false;
        controller->nbd_count++;
    }
    return more == 0;
}

SETTER(iscsi)
{
    struct config_controller *controller = &read->config->controllers[index];
    struct value_list list = {.at = text};
    char one[ADDRESS_TEXT_SIZE];
    int more;
    controller->iscsi_count = 0;
    while ((more = value_list_next(&list, one, sizeof one, CONFIG_ISCSI_LIMIT, "addresses", why)) >
           0) {
        struct address *to = &controller->iscsi[controller->iscsi_count];
        if (!address_parse(one, to, why))
            return false;
        if (to->kind != ADDRESS_IP)
            return value_refuse(why, "hosts come here by TCP; write ADDRESS:PORT or [IPV6]:PORT");
        if (strcmp(to->host, "0.0.0.0") == 0 || strcmp(to->host, "::") == 0)
            return value_refuse(why, "hosts are told this address at discovery, so \"any\" is no "
                                     "answer; write each address that they shall use");
        controller->iscsi_count++;
    }
    return more == 0;
}

/* Where another array connects: as for the peer. */
static bool copy_address(const char *text, struct address *to, char why[TRACE_LINE])
{
    struct address address;
    if (!address_parse(text, &address, why))
        return false;
    if (address.kind != ADDRESS_IP)
        return value_refuse(why,
                            "the other array connects by TCP; write ADDRESS:PORT or [IPV6]:PORT");
    if (strcmp(address.host, "0.0.0.0") == 0 || strcmp(address.host, "::") == 0)
        return value_refuse(why, "\"any\" is no address to connect to; write the one that the "
                                 "other array reaches");
    *to = address;
    return true;
}

SETTER(copy)
{
    return copy_address(text, &read->config->controllers[index].copy, why);
}

SETTER(run)
{
    char *run = read->config->controllers[index].run;
    if (!value_path(text, run, CONFIG_RUN_SIZE, why))
        return false;
    for (size_t length = strlen(run); length > 1 && run[length - 1] == '/'; length--)
        run[length - 1] = '\0';
    return true;
}

SETTER(cpu)
{
    uint32_t cpu;
    if (!value_number(text, &cpu, 0, 1023, why))
        return false;
    read->config->controllers[index].cpu = (int)cpu;
    return true;
}

SETTER(poll)
{
    return value_microseconds(text, &read->config->controllers[index].poll_us, 1000, why);
}

SETTER(requests)
{
    return value_number(text, &read->config->controllers[index].request_limit, 16, 65536, why);
}

SETTER(path)
{
    return value_path(text, read->config->stores[index].path, CONFIG_PATH_SIZE, why);
}

SETTER(io)
{
    static const char *const words[] = {"auto", "direct", "buffered", NULL};
    int word = value_word(text, words, why);
    if (word >= 0)
        read->config->stores[index].io = (enum config_io)word;
    return word >= 0;
}

SETTER(store)
{
    return value_name(text, read->volume_store[index], why);
}

SETTER(offset)
{
    uint64_t bytes;
    if (!value_size(text, &bytes, why))
        return false;
    if (bytes % PAGE_SIZE_BYTES != 0)
        return value_refuse(why, "not a multiple of 4096 bytes; the nearest below is %llu",
                            (unsigned long long)(bytes / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES));
    read->config->volumes[index].store_offset_bytes = bytes;
    return true;
}

SETTER(size)
{
    uint64_t bytes;
    if (!value_size(text, &bytes, why))
        return false;
    if (bytes == 0)
        return value_refuse(why, "a volume without a byte; write its size, such as 20G");
    if (bytes % SECTOR_SIZE != 0)
        return value_refuse(why, "not a multiple of 512 bytes; the nearest below is %llu",
                            (unsigned long long)(bytes / SECTOR_SIZE * SECTOR_SIZE));
    read->config->volumes[index].size_bytes = bytes;
    return true;
}

SETTER(owner)
{
    static const char *const words[] = {"a", "b", NULL};
    int word = value_word(text, words, why);
    if (word >= 0)
        read->config->volumes[index].home = (uint8_t)word;
    return word >= 0;
}

SETTER(flush)
{
    static const char *const words[] = {"mirror", "destage", NULL};
    int word = value_word(text, words, why);
    read->config->volumes[index].flush_destage = word == 1;
    return word >= 0;
}

SETTER(block)
{
    static const char *const words[] = {"512", "4096", NULL};
    int word = value_word(text, words, why);
    if (word >= 0)
        read->config->scsi[index].block_size_bytes = word ? CONFIG_BLOCK_MOST : CONFIG_BLOCK_LEAST;
    return word >= 0;
}

SETTER(transition)
{
    static const char *const words[] = {"wait", "busy", "transitioning", NULL};
    int word = value_word(text, words, why);
    if (word >= 0)
        read->config->scsi[index].transition = (enum config_transition)word;
    return word >= 0;
}

SETTER(initiator)
{
    struct config_host *host = &read->config->hosts[index];
    struct value_list list = {.at = text};
    char one[CONFIG_INITIATOR_SIZE];
    int more;
    host->initiator_count = 0;
    while ((more = value_list_next(&list, one, sizeof one, CONFIG_INITIATOR_LIMIT,
                                   "initiator names", why)) > 0) {
        if (!value_iscsi_name(one, host->initiators[host->initiator_count], why))
            return false;
        for (uint32_t i = 0; i < host->initiator_count; i++)
            if (strcmp(host->initiators[i], one) == 0)
                return value_refuse(why, "%.120s stands here twice", one);
        host->initiator_count++;
    }
    return more == 0;
}

SETTER(chap_user)
{
    return value_user(text, read->config->hosts[index].chap_user, why);
}

SETTER(chap_secret)
{
    return value_secret(text, read->config->hosts[index].chap_secret, why);
}

SETTER(mutual_user)
{
    return value_user(text, read->config->hosts[index].mutual_user, why);
}

SETTER(mutual_secret)
{
    return value_secret(text, read->config->hosts[index].mutual_secret, why);
}

SETTER(volumes)
{
    if (strlen(text) >= CONFIG_LINE_SIZE)
        return value_refuse(why, "longer than a line");
    memcpy(read->host_volumes[index], text, strlen(text) + 1);
    return true;
}

SETTER(role)
{
    static const char *const words[] = {"send", "receive", NULL};
    int word = value_word(text, words, why);
    read->config->groups[index].receives = word == 1;
    return word >= 0;
}

SETTER(array)
{
    return value_name(text, read->config->groups[index].array, why);
}

SETTER(address)
{
    struct config_group *group = &read->config->groups[index];
    struct value_list list = {.at = text};
    char one[ADDRESS_TEXT_SIZE];
    int more;
    group->address_count = 0;
    while ((more = value_list_next(&list, one, sizeof one, CONTROLLER_COUNT, "addresses", why)) >
           0) {
        struct address *to = &group->addresses[group->address_count];
        if (!copy_address(one, to, why))
            return false;
        if (group->address_count > 0 && to->port == group->addresses[0].port &&
            strcmp(to->host, group->addresses[0].host) == 0)
            return value_refuse(why, "%.100s stands here twice; write one of each controller", one);
        group->address_count++;
    }
    return more == 0;
}

SETTER(group_secret)
{
    return value_secret(text, read->config->groups[index].secret, why);
}

SETTER(group_volumes)
{
    if (strlen(text) >= CONFIG_LINE_SIZE)
        return value_refuse(why, "longer than a line");
    memcpy(read->group_volumes[index], text, strlen(text) + 1);
    return true;
}

SETTER(cycle)
{
    return value_time(text, &read->config->groups[index].cycle_ms, 10, 3600 * 1000, why);
}

SETTER(memory)
{
    uint64_t bytes;
    if (!value_size(text, &bytes, why))
        return false;
    if (bytes < CONFIG_GROUP_MEMORY_LEAST || bytes > CONFIG_CACHE_MAX)
        return value_refuse(why, "out of range; write 1M to 1T");
    read->config->groups[index].memory_bytes = bytes;
    return true;
}

SETTER(bandwidth)
{
    uint64_t bytes;
    if (!value_size(text, &bytes, why))
        return false;
    if (bytes < CONFIG_BANDWIDTH_LEAST || bytes > CONFIG_CACHE_MAX)
        return value_refuse(why, "out of range; write 64K to 1T, in bytes a second");
    read->config->groups[index].bandwidth_bytes = bytes;
    return true;
}

SETTER(tls_psk)
{
    return value_path(text, read->config->groups[index].tls_psk, CONFIG_PATH_SIZE, why);
}

SETTER(tls_certificate)
{
    return value_path(text, read->config->groups[index].tls_certificate, CONFIG_PATH_SIZE, why);
}

SETTER(tls_key)
{
    return value_path(text, read->config->groups[index].tls_key, CONFIG_PATH_SIZE, why);
}

SETTER(tls_authority)
{
    return value_path(text, read->config->groups[index].tls_authority, CONFIG_PATH_SIZE, why);
}

SETTER(expose)
{
    static const char *const words[] = {"no", "read-only", NULL};
    int word = value_word(text, words, why);
    read->config->groups[index].expose = word == 1;
    return word >= 0;
}

SETTER(compression)
{
    static const char *const words[] = {"none", "zstd", NULL};
    int word = value_word(text, words, why);
    read->config->groups[index].zstd = word == 1;
    return word >= 0;
}

SETTER(group_set)
{
    return value_name(text, read->config->groups[index].set, why);
}

/* NAME, or NAME with one or two addresses behind it. */
static bool take_set_array(struct config_set_array *to, char *item, char why[TRACE_LINE])
{
    char *rest, *word = strtok_r(item, " \t", &rest);
    *to = (struct config_set_array){0};
    if (!value_name(word ? word : "", to->name, why))
        return false;
    while ((word = strtok_r(NULL, " \t", &rest))) {
        if (to->address_count == CONTROLLER_COUNT)
            return value_refuse(why, "more than two addresses of %.63s", to->name);
        if (!copy_address(word, &to->addresses[to->address_count], why))
            return false;
        to->address_count++;
    }
    return true;
}

SETTER(set_arrays)
{
    struct config_group *group = &read->config->groups[index];
    struct value_list list = {.at = text};
    char one[CONFIG_NAME_SIZE + 2 * ADDRESS_TEXT_SIZE];
    int more;
    group->set_count = 0;
    while ((more = value_list_next(&list, one, sizeof one, CONFIG_SET_LIMIT, "arrays", why)) > 0) {
        if (!take_set_array(&group->set_arrays[group->set_count], one, why))
            return false;
        if (config_set_place(group, group->set_arrays[group->set_count].name) >= 0)
            return value_refuse(why, "%.63s stands here twice",
                                group->set_arrays[group->set_count].name);
        group->set_count++;
    }
    if (more == 0 && group->set_count < 2)
        return value_refuse(why, "one array makes no set; write all primary arrays, the one that "
                                 "coordinates first");
    return more == 0;
}

SETTER(hold)
{
    return value_time(text, &read->config->groups[index].hold_ms, 1, 1000, why);
}

static const struct key array_keys[] = {
    [ARRAY_NAME] = {.name = "name", .set = set_name, .required = true},
    [ARRAY_SECRET] = {.name = "secret", .set = set_secret, .hidden = true},
    [ARRAY_REGISTER] = {.name = "register", .set = set_register, .required = true},
    [ARRAY_CACHE] = {.name = "cache", .set = set_cache},
    [ARRAY_LEASE] = {.name = "lease", .set = set_lease},
    [ARRAY_SETTLE] = {.name = "settle", .set = set_settle},
    [ARRAY_GIVEBACK] = {.name = "giveback", .set = set_giveback},
    [ARRAY_DIRTY_LOW] = {.name = "dirty_low", .set = set_dirty_low},
    [ARRAY_DIRTY_HIGH] = {.name = "dirty_high", .set = set_dirty_high},
    [ARRAY_DESTAGE_AFTER] = {.name = "destage_after", .set = set_destage_after},
};
static const struct key controller_keys[] = {
    [CONTROLLER_LINK] = {.name = "link", .set = set_link, .required = true},
    [CONTROLLER_WARDEN] = {.name = "warden", .set = set_warden, .required = true},
    [CONTROLLER_NBD] = {.name = "nbd", .set = set_nbd, .required = true},
    [CONTROLLER_ISCSI] = {.name = "iscsi", .set = set_iscsi},
    [CONTROLLER_COPY] = {.name = "copy", .set = set_copy},
    [CONTROLLER_RUN] = {.name = "run", .set = set_run, .required = true},
    [CONTROLLER_CPU] = {.name = "cpu", .set = set_cpu},
    [CONTROLLER_REQUESTS] = {.name = "requests", .set = set_requests},
    [CONTROLLER_POLL] = {.name = "poll", .set = set_poll},
};
static const struct key store_keys[] = {
    [STORE_PATH] = {.name = "path", .set = set_path, .required = true},
    [STORE_IO] = {.name = "io", .set = set_io},
};
static const struct key volume_keys[] = {
    [VOLUME_STORE] = {.name = "store", .set = set_store, .required = true},
    [VOLUME_OFFSET] = {.name = "offset", .set = set_offset},
    [VOLUME_SIZE] = {.name = "size", .set = set_size, .required = true},
    [VOLUME_OWNER] = {.name = "owner", .set = set_owner},
    [VOLUME_FLUSH] = {.name = "flush", .set = set_flush},
    [VOLUME_BLOCK] = {.name = "block", .set = set_block},
    [VOLUME_TRANSITION] = {.name = "transition", .set = set_transition},
};
static const struct key host_keys[] = {
    [HOST_INITIATOR] = {.name = "initiator", .set = set_initiator, .required = true},
    [HOST_CHAP_USER] = {.name = "chap_user", .set = set_chap_user},
    [HOST_CHAP_SECRET] = {.name = "chap_secret", .set = set_chap_secret, .hidden = true},
    [HOST_MUTUAL_USER] = {.name = "mutual_user", .set = set_mutual_user},
    [HOST_MUTUAL_SECRET] = {.name = "mutual_secret", .set = set_mutual_secret, .hidden = true},
    [HOST_VOLUMES] = {.name = "volumes", .set = set_volumes, .required = true},
};
static const struct key group_keys[] = {
    [GROUP_ROLE] = {.name = "role", .set = set_role, .required = true},
    [GROUP_ARRAY] = {.name = "array", .set = set_array, .required = true},
    [GROUP_ADDRESS] = {.name = "address", .set = set_address},
    [GROUP_SECRET] = {.name = "secret", .set = set_group_secret, .required = true, .hidden = true},
    [GROUP_VOLUMES] = {.name = "volumes", .set = set_group_volumes, .required = true},
    [GROUP_CYCLE] = {.name = "cycle", .set = set_cycle},
    [GROUP_MEMORY] = {.name = "memory", .set = set_memory},
    [GROUP_BANDWIDTH] = {.name = "bandwidth", .set = set_bandwidth},
    [GROUP_TLS_PSK] = {.name = "tls_psk", .set = set_tls_psk},
    [GROUP_TLS_CERTIFICATE] = {.name = "tls_certificate", .set = set_tls_certificate},
    [GROUP_TLS_KEY] = {.name = "tls_key", .set = set_tls_key},
    [GROUP_TLS_AUTHORITY] = {.name = "tls_authority", .set = set_tls_authority},
    [GROUP_EXPOSE] = {.name = "expose", .set = set_expose},
    [GROUP_COMPRESSION] = {.name = "compression", .set = set_compression},
    [GROUP_SET] = {.name = "set", .set = set_group_set},
    [GROUP_SET_ARRAYS] = {.name = "set_arrays", .set = set_set_arrays},
    [GROUP_HOLD] = {.name = "hold", .set = set_hold},
};

const struct section_type config_section_types[SECTION_KINDS] = {
    [SECTION_ARRAY] = {"array", array_keys, ARRAY_KEYS},
    [SECTION_CONTROLLER] = {"controller", controller_keys, CONTROLLER_KEYS},
    [SECTION_STORE] = {"store", store_keys, STORE_KEYS},
    [SECTION_VOLUME] = {"volume", volume_keys, VOLUME_KEYS},
    [SECTION_HOST] = {"host", host_keys, HOST_KEYS},
    [SECTION_GROUP] = {"group", group_keys, GROUP_KEYS},
};
_Static_assert(ARRAY_LENGTH(array_keys) == ARRAY_KEYS, "every key has its row");
_Static_assert(ARRAY_LENGTH(controller_keys) == CONTROLLER_KEYS, "every key has its row");
_Static_assert(ARRAY_LENGTH(store_keys) == STORE_KEYS, "every key has its row");
_Static_assert(ARRAY_LENGTH(volume_keys) == VOLUME_KEYS, "every key has its row");
_Static_assert(ARRAY_LENGTH(host_keys) == HOST_KEYS, "every key has its row");
_Static_assert(ARRAY_LENGTH(group_keys) == GROUP_KEYS, "every key has its row");
_Static_assert((int)GROUP_KEYS <= (int)KEY_LIMIT, "the longest table fits");
_Static_assert((int)ARRAY_KEYS <= (int)KEY_LIMIT, "and the next");
