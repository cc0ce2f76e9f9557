# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
#
# Completion of holdfast's commands, options, volumes, groups and sets for bash. It reads the configuration for the names
# of volumes and groups and asks no controller, so that a key press never waits.

# The sections of a kind ("volume", "group") that a configuration has.
_holdfast_sections() {
    local kind=$1 file=$2
    [ -r "$file" ] && sed -n 's/^[[:blank:]]*\[[[:blank:]]*'"$kind"'[[:blank:]]\{1,\}\([A-Za-z0-9._-]*\)[[:blank:]]*\].*/\1/p' "$file"
}

# The sets that its groups are in.
_holdfast_sets() {
    [ -r "$1" ] && sed -n 's/^[[:blank:]]*set[[:blank:]]*=[[:blank:]]*\([A-Za-z0-9._-]*\).*/\1/p' "$1" | sort -u
}

_holdfast() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} config=/etc/holdfast/holdfast.conf words="" i names=0
    COMPREPLY=()

    case $previous in
    --config | --socket)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --controller)
        mapfile -t COMPREPLY < <(compgen -W "a b" -- "$current")
        return
        ;;
    --timeout) return ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "run check status volume group stop accept-loss demo --help --version" -- "$current")
        return
    fi
    # The words before this one: which configuration, and how many names.
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --config) config=${COMP_WORDS[++i]} ;;
        --controller | --socket | --timeout) ((i++)) ;;
        -*) ;;
        *) ((names++)) ;;
        esac
    done
    case $command in
    run) words="--config --controller --help" ;;
    check)
        mapfile -t COMPREPLY < <(compgen -f -W "--help" -- "$current")
        return
        ;;
    status) words="--config --controller --socket --timeout --json --help" ;;
    volume)
        case $names in
        0) words="move" ;;
        1) words="$(_holdfast_sections volume "$config") --config --controller --socket --timeout --help" ;;
        2) words="a b --config --controller --socket --timeout --help" ;;
        *) words="--config --controller --socket --timeout --help" ;;
        esac
        ;;
    group)
        case $names in
        0) words="status suspend resume failover reverse resync" ;;
        *)
            words="--config --controller --socket --timeout --help"
            [ "$names" = 1 ] && words+=" $(_holdfast_sections group "$config")"
            [ "$names${COMP_WORDS[2]}" = 1failover ] && words+=" $(_holdfast_sets "$config")"
            case ${COMP_WORDS[2]} in
            status) words+=" --json" ;;
            resume | failover | resync) words+=" --force" ;;
            esac
            ;;
        esac
        ;;
    demo) words="--remote --postgres --keep --help" ;;
    stop) words="--config --controller --socket --timeout --help" ;;
    accept-loss) words="--config --controller --socket --timeout --peer-is-dead --help" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o filenames -F _holdfast holdfast
