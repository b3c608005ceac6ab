#compdef vsctl
# Completion of vsctl for zsh. Written by `vsctl completions zsh`.

_vsctl() {
    local -a lines whole begun
    local line entry text
    lines=("${(@f)$("${(Q)words[1]}" complete $((CURRENT - 1)) -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in "${(@)lines:#}"; do
        entry=${${line%%$'\t'*}//:/\\:}
        [[ $line == *$'\t'* ]] && text=:${line#*$'\t'} || text=
        # More is to come behind some, so no space follows them.
        if [[ $entry == *[/:=] ]]; then begun+=("$entry$text"); else whole+=("$entry$text"); fi
    done
    local found=1
    (( $#whole )) && _describe -V vsctl whole && found=0
    (( $#begun )) && _describe -V vsctl begun -S '' && found=0
    return found
}

# Loaded by the completion system, or by hand.
if [[ ${funcstack[1]} == _vsctl ]]; then
    _vsctl "$@"
else
    compdef _vsctl vsctl
fi
