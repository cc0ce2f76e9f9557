/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See pins.h: lists linked by slot number, and nothing else. */

#include "copy/pins.h"

void pins_create(struct pins *pins, struct arena *arena, uint32_t slot_count)
{
    struct pin *pin = arena_array(arena, struct pin, slot_count);
    uint32_t *crc = arena_array(arena, uint32_t, slot_count);
    if (arena->base == NULL)
        return;
    *pins = (struct pins){.pin = pin, .crc = crc, .count = slot_count};
    for (uint32_t i = 0; i < slot_count; i++)
        pin[i] = (struct pin){.prev = NO_INDEX, .next = NO_INDEX, .ring = PIN_NONE};
}

void pins_append(struct pins *pins, struct pin_list *list, uint32_t slot, uint8_t ring)
{
    struct pin *pin = pins_at(pins, slot);
    CHECK(pin->ring == PIN_NONE);
    CHECK(ring < COPY_RING);
    pin->ring = ring;
    pin->summed = false;
    pin->prev = list->tail;
    pin->next = NO_INDEX;
    if (list->tail == NO_INDEX)
        list->head = slot;
    else
        pins_at(pins, list->tail)->next = slot;
    list->tail = slot;
    list->count++;
}

void pins_remove(struct pins *pins, struct pin_list *list, uint32_t slot)
{
    struct pin *pin = pins_at(pins, slot);
    CHECK(pin->ring != PIN_NONE);
    CHECK(list->count > 0);
    if (pin->prev == NO_INDEX) {
        CHECK(list->head == slot);
        list->head = pin->next;
    } else {
        pins_at(pins, pin->prev)->next = pin->next;
    }
    if (pin->next == NO_INDEX) {
        CHECK(list->tail == slot);
        list->tail = pin->prev;
    } else {
        pins_at(pins, pin->next)->prev = pin->prev;
    }
    list->count--;
    pin->ring = PIN_NONE;
    pin->prev = pin->next = NO_INDEX;
}

void pins_summed(struct pins *pins, uint32_t slot, uint8_t sectors, uint32_t crc)
{
    struct pin *pin = pins_at(pins, slot);
    pin->summed = pin->ring != PIN_NONE && !pin->tag && pin->sectors == sectors;
    pins->crc[slot] = crc;
}

void pins_clear(struct pins *pins, uint32_t slot)
{
    struct pin *pin = pins_at(pins, slot);
    CHECK(pin->ring == PIN_NONE);
    pin->sectors = pin->owed = 0;
    pin->passed_on = false;
    pin->generation = 0;
}

uint32_t pins_pop(struct pins *pins, struct pin_list *list)
{
    uint32_t slot = list->head;
    if (slot != NO_INDEX)
        pins_remove(pins, list, slot);
    return slot;
}
