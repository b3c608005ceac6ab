# Completion of vsctl for bash 4 or later. Written by `vsctl completions bash`.

_vsctl() {
    # Bash parts words at = and : too, and vsctl's own words have both (--vlan=10, 02:00:00:00:00:01): what no space
    # parts is put together again, up to the cursor.
    local rest=${COMP_LINE:0:COMP_POINT} words=() i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        local bare=${rest#"${rest%%[![:space:]]*}"} piece=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && piece=$bare
        if ((i == 0)) || [[ $bare != "$rest" ]]; then
            words+=("$piece")
        else
            words[-1]+=$piece
        fi
        rest=${bare#"$piece"}
    done

    local last=$((${#words[@]} - 1)) line value
    local current=${words[last]}
    # What stands before the last break stays: bash replaces what comes behind it.
    local kept=
    [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && kept=${current%"${current##*:}"}
    local behind=${current#"$kept"}
    [[ $COMP_WORDBREAKS == *=* && $behind == *=* ]] && kept+=${behind%"${behind##*=}"}

    COMPREPLY=()
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        [[ $value == "$current"* ]] && COMPREPLY+=("${value#"$kept"}")
    done < <("${words[0]}" complete "$last" -- "${words[@]}" 2>/dev/null)
    # More is to come behind these.
    ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *[/:=] ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -o nosort -F _vsctl vsctl 2>/dev/null || complete -F _vsctl vsctl
