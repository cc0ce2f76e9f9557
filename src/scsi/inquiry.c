/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* INQUIRY (SPC-4 6.6): standard data and vital product data pages. Everything that names the
 * logical unit is the same through both controllers; what names the port is the controller's own.
 * A page is one row of the table; the list of pages is made from it. */

#include "scsi/sense.h"

enum {
    STANDARD_BYTES = 96,
    INQUIRY_BYTES = 1024, /* the longest page: identification, with two names of 223 bytes */
    PAGE_HEADER_BYTES = 4,
    NO_UNIT = 0x7F, /* peripheral qualifier 3, type 1Fh: no logical unit can be here */
};

#define VENDOR  "HOLDFAST"
#define PRODUCT "VOLUME          "

static void put_text(uint8_t *to, const char *text)
{
    memcpy(to, text, strlen(text));
}

static void serial_of(const struct scsi_unit *unit, uint8_t *to)
{
    static const char digits[] = "0123456789abcdef";

    for (uint32_t i = 0; i < sizeof unit->naa; i++) {
        to[2 * i] = (uint8_t)digits[unit->naa[i] >> 4];
        to[2 * i + 1] = (uint8_t)digits[unit->naa[i] & 0x0F];
    }
}

/* SPC-4 6.6.2. */
static uint32_t standard(const struct scsi_task *task, uint8_t *to)
{
    static const uint16_t versions[] = {0x00A0, 0x0460, 0x04C0, 0x0960}; /* SAM-5, SPC-4, SBC-3,
                                                                            iSCSI; no revision */
    memset(to, 0, STANDARD_BYTES);
    to[0] = task->unit != NULL ? 0x00 : NO_UNIT;
    to[2] = 0x06;               /* SPC-4 */
    to[3] = 0x10 | 0x02;        /* HISUP; response data format */
    to[4] = STANDARD_BYTES - 5; /* additional length */
    to[5] = 0x30 | 0x08;        /* TPGS: implicit and explicit; 3PC: EXTENDED COPY */
    to[6] = 0x10;               /* MULTIP */
    to[7] = 0x02;               /* CMDQUE */
    put_text(to + 8, VENDOR);
    put_text(to + 16, PRODUCT);
    put_text(to + 32, "1   ");
    for (uint32_t i = 0; i < ARRAY_LENGTH(versions); i++)
        put_u16(to + 58 + 2 * i, versions[i]);
    return STANDARD_BYTES;
}

/* ---- vital product data: each page's body, after the four bytes of its header ---- */

static uint32_t page_serial(const struct scsi_task *task, uint8_t *to)
{
    serial_of(task->unit, to);
    return 32;
}

/* One designation descriptor (SPC-4 7.8.6.1). `place`: association, shifted, and type. */
static uint32_t designation(uint8_t *to, uint8_t code_set, uint8_t place, const void *designator,
                            uint32_t length)
{
    to[0] = (place & 0x30 ? 0x50 : 0) | code_set; /* protocol iSCSI, where it is not of the unit */
    to[1] = (place & 0x30 ? 0x80 : 0) | place;    /* PIV */
    to[2] = 0;
    to[3] = (uint8_t)length;
    memcpy(to + 4, designator, length);
    return 4 + length;
}

/* A SCSI name string: UTF-8, NUL-terminated, padded to a multiple of four (SPC-4 7.8.6.11). */
static uint32_t name_designation(uint8_t *to, uint8_t place, const char *name, const char *more)
{
    uint8_t text[SCSI_TARGET_NAME_SIZE + 16] = {0};
    uint32_t length = (uint32_t)strlen(name), more_length = (uint32_t)strlen(more);

    memcpy(text, name, length);
    memcpy(text + length, more, more_length);
    return designation(to, 3, place, text, (length + more_length + 4) & ~3u);
}

static uint32_t page_identification(const struct scsi_task *task, uint8_t *to)
{
    const struct scsi_unit *unit = task->unit;
    uint8_t vendor[8 + 16 + 32], port[4] = {0};
    const char *suffix = task->nexus->port == SCSI_PORT_A ? ",t,0x0001" : ",t,0x0002";
    uint32_t at = 0;

    at += designation(to + at, 1, 0x03, unit->naa, sizeof unit->naa);
    put_text(vendor, VENDOR);
    put_text(vendor + 8, PRODUCT);
    serial_of(unit, vendor + 24);
    at += designation(to + at, 2, 0x01, vendor, sizeof vendor);
    put_u16(port + 2, task->nexus->port);
    at += designation(to + at, 1, 0x14, port, sizeof port); /* relative target port */
    at += designation(to + at, 1, 0x15, port, sizeof port); /* target port group: the same number */
    at += name_designation(to + at, 0x18, task->scsi->config.target_name, suffix);
    at += name_designation(to + at, 0x28, task->scsi->config.target_name, "");
    return at;
}

static uint32_t page_extended(const struct scsi_task *task, uint8_t *to)
{
    to[1] = 0x07;             /* HEADSUP, ORDSUP, SIMPSUP */
    to[2] = 0x01;             /* V_SUP: a cache that FLUSH is for */
    to[9] = SCSI_SENSE_BYTES; /* maximum supported sense data length */
    return 0x3C;
}

static uint32_t page_limits(const struct scsi_task *task, uint8_t *to)
{
    const struct scsi_unit *unit = task->unit;
    uint8_t shift = unit->block_shift;
    uint32_t page_blocks = PAGE_SIZE_BYTES >> shift;
    uint32_t compare = COMPARE_WRITE_BYTES >> shift;

    to[0] = 0x01; /* WSNZ */
    to[1] = (uint8_t)min_u32(compare, 255);
    put_u16(to + 2, (uint16_t)page_blocks);
    put_u32(to + 4, task->scsi->config.transfer_bytes >> shift);
    put_u32(to + 8, min_u32(task->scsi->config.transfer_bytes, SCSI_PIECE_BYTES) >> shift);
    put_u32(to + 12, PREFETCH_BYTES >> shift);
    if (unit->thin) {
        put_u32(to + 16, RANGE_BYTES >> shift);
        put_u32(to + 20, UNMAP_DESCRIPTOR_LIMIT);
        put_u32(to + 24, page_blocks);
        put_u32(to + 28, 0x80000000); /* UGAVALID, alignment 0 */
    }
    put_u64(to + 32, task->scsi->config.transfer_bytes >> shift);
    return 0x3C;
}

static uint32_t page_characteristics(const struct scsi_task *task, uint8_t *to)
{
    put_u16(to, 1); /* non-rotating */
    return 0x3C;
}

static uint32_t page_provisioning(const struct scsi_task *task, uint8_t *to)
{
    if (task->unit->thin) {
        to[1] = 0x80 | 0x40 | 0x20 | 0x04; /* LBPU, LBPWS, LBPWS10, LBPRZ */
        to[2] = 0x02;                      /* thin provisioned */
    }
    return 4;
}

static uint32_t page_list(const struct scsi_task *task, uint8_t *to);

static const struct page {
    uint8_t code;
    uint32_t (*body)(const struct scsi_task *task, uint8_t *to);
} pages[] = {
    {0x00, page_list},           /* SPC-4 7.8.14 */
    {0x80, page_serial},         /* 7.8.15 */
    {0x83, page_identification}, /* 7.8.6 */
    {0x86, page_extended},       /* 7.8.7 */
    {0xB0, page_limits},         /* SBC-3 6.6.4 */
    {0xB1, page_characteristics},
    {0xB2, page_provisioning},
};

static uint32_t page_list(const struct scsi_task *task, uint8_t *to)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(pages); i++)
        to[i] = pages[i].code;
    return ARRAY_LENGTH(pages);
}

static const struct page *find_page(uint8_t code)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(pages); i++)
        if (pages[i].code == code)
            return &pages[i];
    return NULL;
}

enum scsi_step inquiry_begin(struct scsi_task *task)
{
    const uint8_t *cdb = task->cdb;

    if (cdb[1] & 0x02) /* CMDDT: obsolete */
        return sense_invalid_field_in_cdb(task, 1, 1);
    if (!(cdb[1] & 0x01) && cdb[2] != 0)
        return sense_invalid_field_in_cdb(task, 2, -1);
    if ((cdb[1] & 0x01) && (task->unit == NULL || find_page(cdb[2]) == NULL))
        return sense_invalid_field_in_cdb(task, 2, -1);
    return task_buffer_in(task, INQUIRY_BYTES);
}

enum scsi_step inquiry_run(struct scsi_task *task)
{
    uint8_t *to = task->buffer;
    uint32_t length;

    if (task->cdb[1] & 0x01) {
        memset(to, 0, INQUIRY_BYTES);
        to[1] = task->cdb[2];
        length = find_page(task->cdb[2])->body(task, to + PAGE_HEADER_BYTES);
        put_u16(to + 2, (uint16_t)length);
        length += PAGE_HEADER_BYTES;
    } else {
        length = standard(task, to);
    }
    return task_in(task, length, get_u16(task->cdb + 3));
}
