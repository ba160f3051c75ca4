#!/bin/sh
# What a test starts in place of the compiler, through a link in a folder of its own: it notes that it was started, and
# does what the file `orders` beside the link says. The folder is the link's, since a compiler gets no environment.
folder=${0%/*}
echo "$@" >>"$folder/starts"
. "$folder/orders"
