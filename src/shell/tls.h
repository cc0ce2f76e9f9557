/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* TLS 1.3 (RFC 8446) over one byte stream: bytes in, bytes out. The cryptographic library never
 * sees a socket: what the network brings is put into a buffer of fixed size and taken from there,
 * and the same the other way, so that the loop alone sends and receives. Both ends prove who they
 * are: by a pre-shared key with a fresh key exchange (psk_dhe_ke, RFC 8446 2.2), or by certificates
 * of one authority in which the peer's name stands. Memory is bounded: two buffers of
 * TLS_BUFFER_BYTES and the library's own records.
 *
 *     receive into tls_place(), tls_received(), tls_step()    until it is TLS_READY, sending
 * between tls_read()                                              bytes of the peer tls_write(),
 * send tls_output(), tls_sent()              bytes to the peer */

#ifndef SHELL_TLS_H
#define SHELL_TLS_H

#include "base/check.h"
#include "base/limits.h"

enum {
    TLS_BUFFER_BYTES = 256 * 1024,
    TLS_RECORD_ROOM = 16384 + 512, /* the longest record as it travels (RFC 8446 5.2), and more */
    TLS_PSK_LEAST = 16,            /* bytes */
    TLS_PSK_MOST = 64,
    TLS_CERTIFICATES_BYTES = 64 * 1024, /* of a peer's chain */
};

/* Files that say who this end is and whom it takes the other for. Either `psk`, or the other three;
 * empty strings or NULL for what is not used. */
struct tls_files {
    const char *psk;         /* 32 to 128 hexadecimal digits on one line */
    const char *certificate; /* PEM: ours, then those between it and the authority */
    const char *key;         /* PEM, without a passphrase */
    const char *authority;   /* PEM: who signs both ends' certificates */
};

struct tls_context;

/* Reads the files, once for many connections. `peer`: the name that must stand in the other end's
 * certificate (a DNS name of its subjectAltName, else its common name; no wildcards); empty: the
 * owner asks tls_peer_is() when it knows whom it expects. Not used with a pre-shared key. NULL, or
 * a sentence in `why` that says which file is wrong and how. */
const char *tls_context_make(struct tls_context **context, const struct tls_files *files,
                             const char *peer, char why[TRACE_LINE]);
void tls_context_free(struct tls_context *context);

enum tls_state {
    TLS_HANDSHAKE, /* nothing can be read or written yet */
    TLS_READY,     /* the other end has proved who it is */
    TLS_FAILED,    /* `reason` says why: send what tls_output() has (it tells the peer), close */
    TLS_CLOSED,    /* the peer has said that nothing more comes */
};

struct tls {
    /* Read by the owner. */
    enum tls_state state;
    char reason[TRACE_LINE];

    /* Its own. */
    struct ssl_st *ssl;
    struct bio_st *network; /* the outer end of the pair of buffers */
    bool server;
};

/* False: no memory. The context must outlive it. */
MUST_CHECK bool tls_start(struct tls *tls, struct tls_context *context, bool server);
/* All of it is given back; also after a tls_start() that failed, or of a zeroed struct. */
void tls_end(struct tls *tls);

/* In TLS_READY: that name stands in the other end's certificate, or a pre-shared key proved it. */
bool tls_peer_is(const struct tls *tls, const char *name);

/* Where the network's next bytes go: *place, so many at most; 0: read first. */
size_t tls_place(struct tls *tls, uint8_t **place);
void tls_received(struct tls *tls, size_t size);

/* The handshake goes on as far as it can. */
enum tls_state tls_step(struct tls *tls);

/* What the peer said, decrypted; 0: no more now, or the state says why. */
size_t tls_read(struct tls *tls, void *to, size_t size);
/* Encrypts as much as there is room for; returns how much was taken. Only in TLS_READY. */
size_t tls_write(struct tls *tls, const void *from, size_t size);

/* What to send now; 0: nothing. It stays until tls_sent(). */
size_t tls_output(struct tls *tls, uint8_t **bytes);
void tls_sent(struct tls *tls, size_t size);

#endif
