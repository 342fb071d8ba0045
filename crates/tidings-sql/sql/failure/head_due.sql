UPDATE tidings_parked SET due_us = {now}
WHERE consumer = :consumer AND id IN ([:id]) AND due_us IS NULL
  AND (letter IS NULL OR EXISTS (SELECT 1 FROM tidings_dead_letter AS d WHERE d.id = letter AND d.status = 'redriven'))
