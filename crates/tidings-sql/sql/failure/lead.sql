UPDATE tidings_parker SET owner = :owner, until_us = {now} + :lease
WHERE consumer = :consumer AND (owner = :owner OR until_us < {now})
