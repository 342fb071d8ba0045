UPDATE tidings_schedule SET due_us = :due WHERE id = :id
