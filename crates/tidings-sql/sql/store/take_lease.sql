-- The epoch before the owner: MySQL sets from left to right, and would compare with the new owner.
UPDATE tidings_relay_lease
SET epoch = epoch + CASE WHEN owner = :owner THEN 0 ELSE 1 END, owner = :owner, expires_at_us = {now} + :time_to_live
WHERE outbox = :outbox AND shard = :shard AND shards = :shards AND (owner = :owner OR expires_at_us < {now})
