# bash completion for topicast. It needs bash 3.2 or later, and no other package.

# __topicast_complete asks topicast itself what may stand where the cursor is.
__topicast_complete() {
    local words=() line=${COMP_LINE:0:COMP_POINT} blank word i
    COMPREPLY=()

    # The words up to the cursor. bash parts them at = and : too (COMP_WORDBREAKS),
    # which belong to --flag=value and 239.1.2.3:5000.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${line%%[![:space:]]*}
        line=${line#"$blank"}
        word=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && word=$line
        if [[ $i -eq 0 || -n $blank ]]; then
            words[${#words[@]}]=$word
        else
            words[${#words[@]} - 1]+=$word
        fi
        line=${line#"$word"}
    done

    # Quotes are taken off, and nothing else is made of what was typed: it is not run.
    for i in "${!words[@]}"; do
        words[i]=${words[i]//[\"\'\\]/}
    done
    local program=${words[0]/#\~\//$HOME/}
    [[ -x $program && $program == */* ]] || program=$(type -P "${program##*/}") || return 0
    local current=${words[${#words[@]} - 1]} out
    out=$("$program" __complete "${words[@]:1}" 2>/dev/null) || return 0
    [[ $current == -*=* ]] && current=${current#*=}

    # The last line is the directive of cobra, a sum of bits.
    local directive=${out##*:} tab=$'\t' offer offers=() longest=0
    out=${out%:*}
    while IFS= read -r offer; do
        word=${offer%%"$tab"*}
        if ((directive & 8)); then # extensions: files are meant
            offers[${#offers[@]}]=$offer
        elif [[ -n $word && $word == "$current"* ]]; then
            offers[${#offers[@]}]=$offer
            ((${#word} > longest)) && longest=${#word}
        fi
    done <<<"$out"

    if ((directive & 1)); then
        return 0
    elif ((directive & 16)); then
        __topicast_files "$current" -d
    elif ((directive & 8)); then
        __topicast_files "$current" -f "${offers[@]}"
    elif ((${#offers[@]} == 0 && !(directive & 4))); then
        __topicast_files "$current" -f
    else
        __topicast_option nosort
        ((directive & 2)) && __topicast_option nospace
        for offer in "${offers[@]}"; do
            word=${offer%%"$tab"*}
            # What each is, where all are listed.
            if [[ ${#offers[@]} -gt 1 && $offer == *"$tab"* && ${COMP_TYPE:-9} =~ ^(33|63|64)$ ]]; then
                printf -v word '%-*s  (%s)' "$longest" "$word" "${offer#*"$tab"}"
                word=${word:0:${COLUMNS:-80}}
            fi
            COMPREPLY[${#COMPREPLY[@]}]=$word
        done
    fi

    # bash puts the answer in the place of what stands behind the last = or :.
    local break
    for break in : =; do
        if [[ $current == *"$break"* && $COMP_WORDBREAKS == *"$break"* ]]; then
            word=${current%"${current##*"$break"}"}
            for i in "${!COMPREPLY[@]}"; do
                COMPREPLY[i]=${COMPREPLY[i]#"$word"}
            done
        fi
    done
    return 0
}

# __topicast_files BEGINNING -f|-d [EXTENSION]... completes files and folders.
__topicast_files() {
    local begins=${1/#\~\//$HOME/} kind=$2 file
    shift 2
    __topicast_option filenames
    while IFS= read -r file; do
        [[ -n $file ]] || continue
        if [[ $# -eq 0 || -d $file || " $* " == *" ${file##*.} "* ]]; then
            COMPREPLY[${#COMPREPLY[@]}]=$file
        fi
    done <<<"$(compgen "$kind" -- "$begins")"
}

# __topicast_option sets an option of completion, where this bash has it.
__topicast_option() { [[ $(type -t compopt) == builtin ]] && compopt -o "$1" 2>/dev/null; }

complete -F __topicast_complete topicast
