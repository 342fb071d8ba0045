DELETE FROM tidings_policy WHERE consumer = :consumer
