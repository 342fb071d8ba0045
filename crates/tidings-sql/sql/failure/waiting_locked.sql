SELECT id FROM tidings_parked
WHERE due_us > {now}{where}
ORDER BY id
LIMIT :limit
{for_update}
