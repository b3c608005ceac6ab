# Completion of vsctl for fish. Written by `vsctl completions fish`.

function __vsctl_complete
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    set --local current (commandline --current-token --cut-at-cursor)
    $words[1] complete (count $words) -- $words "$current" 2>/dev/null
end

complete --command vsctl --no-files --keep-order --arguments '(__vsctl_complete)'
