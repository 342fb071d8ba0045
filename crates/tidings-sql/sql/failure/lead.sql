-- The epoch before the owner: MySQL sets from left to right, and would compare with the new owner.
UPDATE tidings_leader
SET epoch = epoch + CASE WHEN owner = :owner THEN 0 ELSE 1 END, owner = :owner, until_us = {now} + :lease
WHERE consumer = :consumer AND (owner = :owner OR until_us < {now})
