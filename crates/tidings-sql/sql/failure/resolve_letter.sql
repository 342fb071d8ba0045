UPDATE tidings_dead_letter SET status = 'resolved', changed_us = {now}
WHERE id IN ([:letter]) AND status IN ('redriven', 'open')
