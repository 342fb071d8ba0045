UPDATE tidings_schedule SET due_us = :next, fired = fired + 1, fired_last_us = {now}
WHERE id = :id AND due_us = :due AND fired = :fired
