SELECT epoch FROM tidings_leader WHERE consumer = :consumer {for_update}
