#!/bin/sh
# What the service starts; it stands where compat/common has one of its own.
cat /opt/service/welcome.txt
echo "notebook of $SCISERVER_IMAGE"
