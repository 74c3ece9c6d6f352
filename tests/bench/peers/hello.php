<?php
// The smallest PHP script.
header('Content-Type: text/plain');
echo "hello world\n";
