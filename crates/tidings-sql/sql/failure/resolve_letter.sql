UPDATE tidings_dead_letter SET status = 'resolved', changed_us = {now}
WHERE id = :letter AND status = 'redriven'
