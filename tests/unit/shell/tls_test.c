/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* TLS with both ends in one process: what one writes the other reads however the stream is cut,
 * only who holds the key or the right certificate comes in, what went wrong is said, memory stays
 * bounded, and damaged or foreign bytes end the connection and nothing else. */

#include "shell/tls.h"

#include "base/generator.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[64];
static struct generator chance;

static uint32_t pick(uint32_t below)
{
    return (uint32_t)(generator_next(&chance) % below);
}

/* ---- files ---- */

static const char *path_of(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static const char *write_file(const char *name, const char *text, mode_t mode)
{
    const char *path = path_of(name);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(descriptor >= 0);
    assert_int_equal(fchmod(descriptor, mode), 0);
    assert_int_equal(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
    close(descriptor);
    return path;
}

static EVP_PKEY *ca_key;
static X509 *ca;

static X509 *make_certificate(EVP_PKEY *key, const char *name, bool authority, int days, X509 *by,
                              EVP_PKEY *by_key)
{
    X509 *made = X509_new();
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), (long)pick(1 << 30));
    X509_gmtime_adj(X509_getm_notBefore(made), -3L * 86400);
    X509_gmtime_adj(X509_getm_notAfter(made), (long)days * 86400);
    X509_set_pubkey(made, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made, X509_get_subject_name(by ? by : made));
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                                                    authority ? "critical,CA:TRUE" : "CA:FALSE");
    X509_add_ext(made, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(made, by_key ? by_key : key, EVP_sha256()) > 0);
    return made;
}

static void write_pem(const char *name, X509 *certificate, EVP_PKEY *key)
{
    FILE *file = fopen(path_of(name), "we");
    assert_non_null(file);
    fchmod(fileno(file), 0600);
    if (certificate)
        PEM_write_X509(file, certificate);
    if (key)
        PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

/* NAME.crt and NAME.key, signed by the authority, or by nobody else. */
static void write_identity(const char *file, const char *name, int days, bool by_itself)
{
    char text[64];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *made =
        make_certificate(key, name, false, days, by_itself ? NULL : ca, by_itself ? NULL : ca_key);
    snprintf(text, sizeof text, "%s.crt", file);
    write_pem(text, made, NULL);
    snprintf(text, sizeof text, "%s.key", file);
    write_pem(text, NULL, key);
    X509_free(made);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    generator_seed(&chance, 7);
    snprintf(directory, sizeof directory, "/tmp/holdfast-tls-XXXXXX");
    assert_non_null(mkdtemp(directory));
    ca_key = EVP_EC_gen("P-256");
    ca = make_certificate(ca_key, "authority", true, 30, NULL, NULL);
    write_pem("ca.crt", ca, NULL);
    write_identity("first", "first", 30, false);
    write_identity("second", "second", 30, false);
    write_identity("stranger", "second", 30, true);
    write_identity("old", "second", -1, false);
    write_file("psk", "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n", 0600);
    write_file("psk2", "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1E\n", 0600);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"ca.crt",     "first.crt",   "first.key",    "second.crt",
                                        "second.key", "old.crt",     "stranger.crt", "stranger.key",
                                        "old.key",    "psk",         "psk2",         "open.psk",
                                        "short.psk",  "letters.psk", "two.psk",      "open.key"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(path_of(names[i]));
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return rmdir(directory);
}

static struct tls_context *psk_context(const char *name)
{
    char why[TRACE_LINE] = "";
    struct tls_context *context = NULL;
    struct tls_files files = {.psk = path_of(name)};
    const char *wrong = tls_context_make(&context, &files, "unused", why);
    if (wrong)
        print_error("%s\n", wrong);
    assert_null(wrong);
    return context;
}

static struct tls_context *certificate_context(const char *name, const char *peer)
{
    char why[TRACE_LINE] = "", certificate[64], key[64];
    struct tls_context *context = NULL;
    snprintf(certificate, sizeof certificate, "%s.crt", name);
    snprintf(key, sizeof key, "%s.key", name);
    struct tls_files files = {
        .certificate = path_of(certificate), .key = path_of(key), .authority = path_of("ca.crt")};
    const char *wrong = tls_context_make(&context, &files, peer, why);
    if (wrong)
        print_error("%s\n", wrong);
    assert_null(wrong);
    return context;
}

/* ---- both ends ---- */

static struct tls client, server;

/* At most `most` bytes from one end to the other; false: there was nothing to carry, or no room. */
static bool carry(struct tls *from, struct tls *to, size_t most)
{
    uint8_t *bytes, *place;
    size_t size = tls_output(from, &bytes), room = tls_place(to, &place);
    if (size > room)
        size = room;
    if (size > most)
        size = most;
    if (size == 0)
        return false;
    memcpy(place, bytes, size);
    tls_received(to, size);
    tls_sent(from, size);
    return true;
}

static void begin(struct tls_context *at_client, struct tls_context *at_server)
{
    assert_true(tls_start(&client, at_client, false));
    assert_true(tls_start(&server, at_server, true));
}

static void shake_hands(size_t most)
{
    for (int i = 0; i < 100000; i++) {
        tls_step(&client);
        tls_step(&server);
        bool moved = carry(&client, &server, most);
        moved |= carry(&server, &client, most);
        if (!moved)
            return;
    }
    fail_msg("the handshake does not end");
}

static void end_both(void)
{
    tls_end(&client);
    tls_end(&server);
}

/* ---- tests ---- */

enum { TALK = 3 << 20 };

static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 31 + (at >> 9));
}

/* Random sizes of writes and reads, random cuts of the stream, one way. */
static void talk(struct tls *from, struct tls *to)
{
    static uint8_t text[TALK], got[100000];
    uint32_t written = 0, read = 0;
    for (uint32_t i = 0; i < TALK; i++)
        text[i] = pattern(i);
    for (int turn = 0; read < TALK; turn++) {
        assert_true(turn < 1000000);
        uint32_t size = pick(3) == 0 ? 1 + pick(200000) : pick(5000);
        if (size > TALK - written)
            size = TALK - written;
        written += (uint32_t)tls_write(from, text + written, size);
        carry(from, to, 1 + pick(pick(2) ? 300000 : 700));
        size_t more = tls_read(to, got, 1 + pick(sizeof got));
        for (size_t i = 0; i < more; i++)
            if (got[i] != pattern(read + (uint32_t)i))
                fail_msg("byte %zu differs", read + i);
        read += (uint32_t)more;
        assert_int_equal(from->state, TLS_READY);
        assert_int_equal(to->state, TLS_READY);
    }
    assert_int_equal(written, TALK);
}

static void what_is_written_is_read_however_it_is_cut(void **state)
{
    for (int kind = 0; kind < 2; kind++) {
        struct tls_context *a = kind ? certificate_context("first", "second") : psk_context("psk");
        struct tls_context *b = kind ? certificate_context("second", "first") : psk_context("psk");
        for (size_t most = 1; most < 100000; most = most * 40 + 1) {
            begin(a, b);
            shake_hands(most);
            assert_int_equal(client.state, TLS_READY);
            assert_int_equal(server.state, TLS_READY);
            talk(&client, &server);
            talk(&server, &client);
            end_both();
        }
        tls_context_free(a);
        tls_context_free(b);
    }
}

static void only_the_right_ones_come_in(void **state)
{
    static const struct row {
        const char *client, *wants; /* NULL: a pre-shared key of that name */
        const char *server, *admits;
        const char *at_client, *at_server; /* in the reasons */
    } rows[] = {
        {"psk", NULL, "psk2", NULL, "refuses this end's pre-shared key",
         "has another pre-shared key"},
        {"first", "second", "stranger", "first", "self-signed certificate",
         "does not know who signed"},
        {"stranger", "second", "second", "second", "", "self-signed certificate"},
        {"first", "second", "old", "first", "certificate has expired", "has expired"},
        {"first", "third", "second", "first", "hostname mismatch", "its name?"},
        {"first", "second", "second", "third", "", "hostname mismatch"},
        {"psk", NULL, "second", "first", "", "shows no certificate"},
        {"first", "second", "psk", NULL, "", "offers no pre-shared key"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        struct tls_context *a =
            row->wants ? certificate_context(row->client, row->wants) : psk_context(row->client);
        struct tls_context *b =
            row->admits ? certificate_context(row->server, row->admits) : psk_context(row->server);
        begin(a, b);
        shake_hands(1 << 20);
        /* In TLS 1.3 a client may be ready before the server has judged it: it then hears of the
         * refusal when it reads. */
        char byte;
        tls_read(&client, &byte, 1);
        if (client.state == TLS_READY || server.state != TLS_FAILED ||
            !strstr(client.reason, row->at_client) || !strstr(server.reason, row->at_server))
            fail_msg("row %zu: client %d \"%s\", server %d \"%s\"", i, client.state, client.reason,
                     server.state, server.reason);
        end_both();
        tls_context_free(a);
        tls_context_free(b);
    }
}

static void files_that_are_wrong_are_named(void **state)
{
    write_file("open.psk", "000102030405060708090a0b0c0d0e0f\n", 0644);
    write_file("short.psk", "0001020304\n", 0600);
    write_file("letters.psk", "000102030405060708090a0b0c0d0exy\n", 0600);
    write_file("two.psk", "000102030405060708090a0b0c0d0e0f\nmore\n", 0600);
    write_file("open.key", "x", 0604);
    const struct row {
        const char *psk, *certificate, *key, *authority, *said;
    } rows[] = {
        {"open.psk", NULL, NULL, NULL, "everybody may read it; chmod o-r it"},
        {"short.psk", NULL, NULL, NULL, "not 32 to 128 hexadecimal digits"},
        {"letters.psk", NULL, NULL, NULL, "not hexadecimal digits"},
        {"two.psk", NULL, NULL, NULL, "more than one line"},
        {"none.psk", NULL, NULL, NULL, "No such file"},
        {NULL, "none.crt", "first.key", "ca.crt", "certificate "},
        {NULL, "first.crt", "none.key", "ca.crt", "No such file"},
        {NULL, "first.crt", "open.key", "ca.crt", "chmod o-r"},
        {NULL, "first.crt", "second.key", "ca.crt", "key values mismatch"},
        {NULL, "first.crt", "first.key", "psk", "authority "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[TRACE_LINE] = "";
        struct tls_context *context = NULL;
        struct tls_files files = {
            .psk = rows[i].psk ? path_of(rows[i].psk) : "",
            .certificate = rows[i].certificate ? path_of(rows[i].certificate) : NULL,
            .key = rows[i].key ? path_of(rows[i].key) : NULL,
            .authority = rows[i].authority ? path_of(rows[i].authority) : NULL};
        const char *wrong = tls_context_make(&context, &files, "second", why);
        assert_null(context);
        if (!wrong || !strstr(wrong, rows[i].said) || strstr(wrong, "0001020304"))
            fail_msg("row %zu: \"%s\"", i, wrong ? wrong : "accepted");
    }
}

/* A peer that takes nothing holds the writer back; one that reads nothing is not listened to. */
static void memory_is_bounded(void **state)
{
    static uint8_t text[4 * TLS_BUFFER_BYTES];
    struct tls_context *context = psk_context("psk");
    begin(context, context);
    shake_hands(1 << 20);
    size_t written = tls_write(&client, text, sizeof text);
    assert_true(written > TLS_BUFFER_BYTES - 2 * TLS_RECORD_ROOM);
    assert_true(written < TLS_BUFFER_BYTES);
    assert_int_equal(tls_write(&client, text, sizeof text), 0);
    for (int i = 0; i < 100; i++) {
        carry(&client, &server, SIZE_MAX);
        written += tls_write(&client, text, sizeof text);
    }
    assert_true(written < 2 * TLS_BUFFER_BYTES);
    uint8_t *place;
    assert_int_equal(tls_place(&server, &place) < TLS_RECORD_ROOM, true);
    static uint8_t got[4 * TLS_BUFFER_BYTES];
    size_t read = 0, more;
    do {
        read += more = tls_read(&server, got, sizeof got);
        carry(&client, &server, SIZE_MAX);
    } while (more > 0);
    assert_int_equal(read, written);
    end_both();
    tls_context_free(context);
}

static void plain_text_is_told_from_tls(void **state)
{
    struct tls_context *context = psk_context("psk");
    uint8_t *place;
    uint8_t login[48] = {0x43, 0x87};
    begin(context, context);
    assert_true(tls_place(&server, &place) >= sizeof login);
    memcpy(place, login, sizeof login);
    tls_received(&server, sizeof login);
    assert_int_equal(tls_step(&server), TLS_FAILED);
    assert_non_null(strstr(server.reason, "not TLS"));
    end_both();
    tls_context_free(context);
}

/* Garbage from the first byte on, and a sound stream with bits turned over, bytes lost or added:
 * every such connection ends in TLS_FAILED or waits for more, and nothing wrong is ever read. */
static void damage_ends_the_connection_and_nothing_else(void **state)
{
    struct tls_context *contexts[2][2] = {
        {psk_context("psk"), psk_context("psk")},
        {certificate_context("first", "second"), certificate_context("second", "first")}};
    static uint8_t text[60000], got[60000];
    unsigned failed = 0;
    for (uint32_t i = 0; i < sizeof text; i++)
        text[i] = pattern(i);
    for (unsigned round = 0; round < 3000; round++) {
        struct tls_context **pair = contexts[round % 2];
        begin(pair[0], pair[1]);
        uint32_t damaged_turn = pick(60), written = 0, read = 0;
        for (uint32_t turn = 0; turn < 80; turn++) {
            struct tls *from = turn % 2 ? &server : &client, *to = turn % 2 ? &client : &server;
            tls_step(&client);
            tls_step(&server);
            if (client.state == TLS_READY && written < sizeof text)
                written += (uint32_t)tls_write(&client, text + written,
                                               1 + pick(3000) % (sizeof text - written));
            uint8_t *bytes;
            size_t size = tls_output(from, &bytes);
            if (turn >= damaged_turn && size > 0 && pick(2))
                bytes[pick((uint32_t)size)] ^= (uint8_t)(1 << pick(8));
            else if (turn == damaged_turn && pick(4) == 0) {
                uint8_t *place;
                size_t room = tls_place(to, &place), count = pick(2000);
                for (size_t i = 0; i < count && i < room; i++)
                    place[i] = (uint8_t)generator_next(&chance);
                tls_received(to, count < room ? count : room);
            }
            carry(from, to, 1 + pick(4000));
            size_t more = tls_read(&server, got, sizeof got);
            for (size_t i = 0; i < more; i++)
                assert_int_equal(got[i], pattern(read + (uint32_t)i));
            read += (uint32_t)more;
            tls_read(&client, got, sizeof got);
        }
        failed += client.state == TLS_FAILED || server.state == TLS_FAILED;
        end_both();
    }
    assert_true(failed > 2000);
    for (int i = 0; i < 4; i++)
        tls_context_free(contexts[i / 2][i % 2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_however_it_is_cut),
        cmocka_unit_test(only_the_right_ones_come_in),
        cmocka_unit_test(files_that_are_wrong_are_named),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(plain_text_is_told_from_tls),
        cmocka_unit_test(damage_ends_the_connection_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
