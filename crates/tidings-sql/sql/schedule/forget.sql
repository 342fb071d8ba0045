DELETE FROM tidings_schedule WHERE id = :id AND due_us = :due AND fired = :fired
