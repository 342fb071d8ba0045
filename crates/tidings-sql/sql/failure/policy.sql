SELECT attempts_max FROM tidings_policy WHERE consumer = :consumer
