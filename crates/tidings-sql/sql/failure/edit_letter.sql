UPDATE tidings_dead_letter
SET status = 'edited', edited = :edited, decided_by = :actor, decided_why = :reason, changed_us = {now}
WHERE id = :letter
