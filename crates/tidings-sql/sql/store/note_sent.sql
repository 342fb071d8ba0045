INSERT INTO tidings_relay_note (outbox, row_id, state, attempts, reason, event_id, event_type, destination, event_key, noted_at_us)
SELECT :outbox, settled.id, 3, 0, '', NULL, '', '', NULL, {now}
FROM ({texts}) AS settled
WHERE 1 = 1
{note_conflict}
