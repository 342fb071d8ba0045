SELECT MIN(id) FROM tidings_parked WHERE consumer = :consumer AND lane IN ([:lane]) GROUP BY lane
