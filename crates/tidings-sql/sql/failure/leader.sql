SELECT owner FROM tidings_parker WHERE consumer = :consumer
