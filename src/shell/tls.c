/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See tls.h. A pair of connected memory buffers (BIO pair) stands between the library and the loop;
 * it is a ring of fixed size each way, and its bytes are received and sent where they stand.
 * Invariant: plain text is given to the library only when the whole record that it becomes fits the
 * ring, so no write is ever left half done. No secret reaches a sentence. */

#include "shell/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What both ends call the one key that they share. */
static const char psk_identity[] = "holdfast copy";

enum { TLS_RECORD_BYTES = 16384 };

struct tls_context {
    SSL_CTX *ssl;
    uint8_t psk[TLS_PSK_MOST];
    size_t psk_bytes; /* 0: certificates */
    char peer[256];   /* empty with a pre-shared key */
};

static const char *sentence(char why[TRACE_LINE], const char *what, const char *path,
                            const char *reason)
{
    snprintf(why, TRACE_LINE, "%s %.120s: %s", what, path, reason);
    return why;
}

/* The library's own words for its newest mistake, and forget it. */
static const char *library_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return text ? text : "the cryptographic library does not say why";
}

/* ---- the context ---- */

static int hexadecimal(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    char small = (char)(digit | 0x20);
    return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

static const char *parse_psk(struct tls_context *context, const char *text)
{
    size_t digits = strcspn(text, "\r\n");
    if (text[digits + strspn(text + digits, "\r\n")] != '\0')
        return "more than one line";
    if (digits % 2 != 0 || digits < 2 * TLS_PSK_LEAST || digits > 2 * TLS_PSK_MOST)
        return "not 32 to 128 hexadecimal digits; write one with: openssl rand -hex 32";
    for (size_t i = 0; i < digits / 2; i++) {
        int high = hexadecimal(text[2 * i]), low = hexadecimal(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return "not hexadecimal digits; write one with: openssl rand -hex 32";
        context->psk[i] = (uint8_t)(high << 4 | low);
    }
    context->psk_bytes = digits / 2;
    return NULL;
}

/* A file with a secret in it: everybody on the machine must not be able to read it. */
static const char *open_secret(const char *path, FILE **file)
{
    struct stat status;
    *file = fopen(path, "rbe");
    if (!*file)
        return strerror(errno);
    if (fstat(fileno(*file), &status) == 0 && (status.st_mode & S_IROTH))
        return "everybody may read it; chmod o-r it";
    return NULL;
}

static const char *load_psk(struct tls_context *context, const char *path, char why[TRACE_LINE])
{
    char text[2 * TLS_PSK_MOST + 8] = "";
    FILE *file;
    const char *wrong = open_secret(path, &file);
    if (!wrong) {
        size_t size = fread(text, 1, sizeof text - 1, file);
        wrong = ferror(file)               ? strerror(errno)
                : memchr(text, '\0', size) ? "not a text file"
                                           : parse_psk(context, text);
    }
    if (file)
        fclose(file);
    OPENSSL_cleanse(text, sizeof text);
    return wrong ? sentence(why, "pre-shared key", path, wrong) : NULL;
}

/* A key that needs a passphrase is refused: nobody is there to be asked. */
static int no_passphrase(char *to, int size, int writing, void *context)
{
    return -1;
}

static const char *load_certificates(struct tls_context *context, const struct tls_files *files,
                                     char why[TRACE_LINE])
{
    SSL_CTX *ssl = context->ssl;
    FILE *file;
    const char *wrong = open_secret(files->key, &file);
    if (file)
        fclose(file);
    if (wrong)
        return sentence(why, "key", files->key, wrong);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ssl, files->certificate) != 1)
        return sentence(why, "certificate", files->certificate, library_reason());
    if (SSL_CTX_use_PrivateKey_file(ssl, files->key, SSL_FILETYPE_PEM) != 1)
        return sentence(why, "key", files->key, library_reason());
    if (SSL_CTX_check_private_key(ssl) != 1)
        return sentence(why, "key", files->key, "it is not the certificate's");
    if (SSL_CTX_load_verify_file(ssl, files->authority) != 1)
        return sentence(why, "authority", files->authority, library_reason());
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_max_cert_list(ssl, TLS_CERTIFICATES_BYTES);
    return NULL;
}

static SSL_SESSION *psk_session(SSL *ssl)
{
    static const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
    const struct tls_context *context = SSL_get_app_data(ssl);
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
    SSL_SESSION *session = SSL_SESSION_new();
    if (session && cipher &&
        SSL_SESSION_set1_master_key(session, context->psk, context->psk_bytes) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int psk_offer(SSL *ssl, const EVP_MD *digest, const unsigned char **identity, size_t *size,
                     SSL_SESSION **session)
{
    *session = NULL;
    *identity = NULL;
    *size = 0;
    if (digest && !EVP_MD_is_a(digest, "SHA256"))
        return 1; /* only the one digest goes with an external key (RFC 8446 4.2.11) */
    *session = psk_session(ssl);
    *identity = (const unsigned char *)psk_identity;
    *size = strlen(psk_identity);
    return *session != NULL;
}

static int psk_find(SSL *ssl, const unsigned char *identity, size_t size, SSL_SESSION **session)
{
    *session = NULL;
    if (size == strlen(psk_identity) && memcmp(identity, psk_identity, size) == 0)
        *session = psk_session(ssl);
    return 1; /* without one the handshake fails: there is no certificate to go on with */
}

static bool is_set(const char *path)
{
    return path && path[0];
}

static const char *context_fill(struct tls_context *context, const struct tls_files *files,
                                const char *peer, char why[TRACE_LINE])
{
    context->ssl = SSL_CTX_new(TLS_method());
    if (!context->ssl || SSL_CTX_set_min_proto_version(context->ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context->ssl, TLS1_3_VERSION) != 1)
        return sentence(why, "TLS", "1.3", library_reason());
    /* No resumption: a session of ours lives for days. */
    SSL_CTX_set_num_tickets(context->ssl, 0);
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    if (!is_set(files->psk)) {
        snprintf(context->peer, sizeof context->peer, "%s", peer);
        return load_certificates(context, files, why);
    }
    if (SSL_CTX_set_ciphersuites(context->ssl,
                                 "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") != 1)
        return sentence(why, "TLS", "1.3", library_reason());
    SSL_CTX_set_psk_use_session_callback(context->ssl, psk_offer);
    SSL_CTX_set_psk_find_session_callback(context->ssl, psk_find);
    return load_psk(context, files->psk, why);
}

const char *tls_context_make(struct tls_context **made, const struct tls_files *files,
                             const char *peer, char why[TRACE_LINE])
{
    struct tls_context *context = calloc(1, sizeof *context);
    CHECK(context);
    ERR_clear_error();
    const char *wrong = context_fill(context, files, peer, why);
    if (wrong) {
        tls_context_free(context);
        context = NULL;
    }
    *made = context;
    return wrong;
}

void tls_context_free(struct tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    OPENSSL_cleanse(context->psk, sizeof context->psk);
    free(context);
}

/* ---- one connection ---- */

bool tls_start(struct tls *tls, struct tls_context *context, bool server)
{
    BIO *inner = NULL;
    *tls = (struct tls){.state = TLS_HANDSHAKE, .server = server};
    tls->ssl = SSL_new(context->ssl);
    if (!tls->ssl ||
        BIO_new_bio_pair(&inner, TLS_BUFFER_BYTES, &tls->network, TLS_BUFFER_BYTES) != 1)
        return false;
    SSL_set_bio(tls->ssl, inner, inner);
    SSL_set_app_data(tls->ssl, context);
    if (context->peer[0]) {
        SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_WILDCARDS);
        if (SSL_set1_host(tls->ssl, context->peer) != 1)
            return false;
    }
    if (server)
        SSL_set_accept_state(tls->ssl);
    else
        SSL_set_connect_state(tls->ssl);
    return true;
}

void tls_end(struct tls *tls)
{
    SSL_free(tls->ssl);
    BIO_free(tls->network);
    *tls = (struct tls){.state = TLS_CLOSED};
}

/* What most often is wrong, in words that say what to do. */
static const struct {
    int reason;
    const char *text;
} known_reasons[] = {
    {SSL_R_WRONG_VERSION_NUMBER, "what came is not TLS; is it configured at the other end?"},
    {SSL_R_PACKET_LENGTH_TOO_LONG, "what came is not TLS; is it configured at the other end?"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "the other end does not speak TLS 1.3"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the other end does not speak TLS 1.3"},
    {SSL_R_NO_SHARED_CIPHER, "the other end uses a certificate, this one a pre-shared key"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "the other end offers no pre-shared key"},
    {SSL_R_BINDER_DOES_NOT_VERIFY, "the other end has another pre-shared key"},
    {SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, "the other end refuses this end's pre-shared key"},
    {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, "the other end refuses this end's key"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "the other end shows no certificate"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, "the other end does not know who signed this certificate"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the other end refuses this end's certificate: its name?"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "the other end says this certificate has expired"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "the other end wants a certificate"},
};

static void fail(struct tls *tls)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = NULL;
    if (code != 0 && ERR_GET_LIB(code) == ERR_LIB_SSL)
        for (size_t i = 0; i < ARRAY_LENGTH(known_reasons) && !text; i++)
            if (known_reasons[i].reason == ERR_GET_REASON(code))
                text = known_reasons[i].text;
    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        snprintf(tls->reason, sizeof tls->reason, "TLS: the other end's certificate: %s",
                 X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl)));
    else
        snprintf(tls->reason, sizeof tls->reason, "TLS: %s", text ? text : library_reason());
    ERR_clear_error();
    tls->state = TLS_FAILED;
}

/* A call of the library did not do what was asked: it waits for bytes, or it is over. */
static void judge(struct tls *tls, int result)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return;
    case SSL_ERROR_ZERO_RETURN:
        tls->state = TLS_CLOSED;
        return;
    default:
        fail(tls);
    }
}

bool tls_peer_is(const struct tls *tls, const char *name)
{
    const struct tls_context *context = SSL_get_app_data(tls->ssl);
    if (tls->state != TLS_READY)
        return false;
    if (context->psk_bytes > 0)
        return true;
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    return certificate &&
           X509_check_host(certificate, name, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
}

size_t tls_place(struct tls *tls, uint8_t **place)
{
    char *at = NULL;
    int room = tls->state == TLS_FAILED ? 0 : BIO_nwrite0(tls->network, &at);
    *place = (uint8_t *)at;
    return room > 0 ? (size_t)room : 0;
}

void tls_received(struct tls *tls, size_t size)
{
    char *at;
    CHECK(size <= TLS_BUFFER_BYTES);
    CHECK(BIO_nwrite(tls->network, &at, (int)size) == (int)size);
}

enum tls_state tls_step(struct tls *tls)
{
    if (tls->state != TLS_HANDSHAKE)
        return tls->state;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1)
        tls->state = TLS_READY;
    else
        judge(tls, result);
    return tls->state;
}

size_t tls_read(struct tls *tls, void *to, size_t size)
{
    size_t done = 0;
    while (tls->state == TLS_READY && done < size) {
        size_t got = 0;
        ERR_clear_error();
        int result = SSL_read_ex(tls->ssl, (uint8_t *)to + done, size - done, &got);
        if (result != 1) {
            judge(tls, result);
            break;
        }
        done += got;
    }
    return done;
}

size_t tls_write(struct tls *tls, const void *from, size_t size)
{
    size_t done = 0;
    CHECK(tls->state == TLS_READY);
    while (done < size && BIO_ctrl_get_write_guarantee(SSL_get_wbio(tls->ssl)) >= TLS_RECORD_ROOM) {
        size_t took = 0, part = size - done < TLS_RECORD_BYTES ? size - done : TLS_RECORD_BYTES;
        ERR_clear_error();
        int result = SSL_write_ex(tls->ssl, (const uint8_t *)from + done, part, &took);
        if (result != 1) {
            judge(tls, result);
            break;
        }
        done += took;
    }
    return done;
}

size_t tls_output(struct tls *tls, uint8_t **bytes)
{
    char *at = NULL;
    int size = BIO_nread0(tls->network, &at);
    *bytes = (uint8_t *)at;
    return size > 0 ? (size_t)size : 0;
}

void tls_sent(struct tls *tls, size_t size)
{
    char *at;
    CHECK(size <= TLS_BUFFER_BYTES);
    if (size > 0)
        CHECK(BIO_nread(tls->network, &at, (int)size) == (int)size);
}
