#!/bin/sh
echo "common"
