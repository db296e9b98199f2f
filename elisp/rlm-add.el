;;; rlm-add.el --- Collect what is meant, from anywhere  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; `rlm-add' adds to the current collection what is meant where it is
;; called: each of `rlm-add-functions' is asked in turn, and the first that
;; knows an answer gives it.  `rlm-add-url' fetches a page, and Emacs goes
;; on meanwhile.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-context)
(require 'rlm-collection)

(eval-when-compile
  (require 'compile))

(declare-function bookmark-all-names "bookmark" ())
(declare-function bookmark-bmenu-bookmark "bookmark" ())
(declare-function bookmark-get-filename "bookmark" (bookmark))
(declare-function bookmark-get-handler "bookmark" (bookmark))
(declare-function bookmark-jump "bookmark" (bookmark &optional display-func))
(declare-function bookmark-maybe-load-default-file "bookmark" ())
(declare-function compilation--ensure-parse "compile" (limit))
(declare-function dom-by-tag "dom" (dom tag))
(declare-function dom-text "dom" (node))
(declare-function ibuffer-current-buffer "ibuffer" (&optional must-be-live))
(declare-function ibuffer-get-marked-buffers "ibuffer" ())
(declare-function Info-find-file "info" (filename &optional noerror no-pop-to-dir))
(declare-function info-insert-file-contents "info" (filename &optional visit))
(declare-function org-at-heading-p "org" (&optional ignored))
(declare-function org-back-to-heading "org" (&optional invisible-ok))
(declare-function org-end-of-subtree "org" (&optional invisible-ok to-heading))
(declare-function org-get-heading "org" (&optional no-tags no-todo no-priority no-comment))
(declare-function rlm-dired-files "rlm-dired" ())
(declare-function rlm-dired-marked-p "rlm-dired" ())
(declare-function rlm-project-root "rlm-project" ())
(declare-function shr-insert-document "shr" (dom))
(declare-function xref-item-location "xref" (item))
(declare-function xref-location-group "xref" (location))
(declare-function xref-location-marker "xref" (location))

(defvar eww-data)
(defvar Info-current-file)
(defvar Info-current-node)
(defvar shr-inhibit-images)
(defvar shr-use-fonts)
(defvar shr-width)

(defcustom rlm-add-functions
  '(rlm-add-region rlm-add-dired rlm-add-ibuffer rlm-add-bookmarks rlm-add-matches
    rlm-add-compilation rlm-add-info rlm-add-page rlm-add-subtree rlm-add-buffer)
  "Functions that say what `rlm-add' adds, asked in this order.
Each is called without arguments where the command was called, and returns a
list of items, as `rlm-item-of-file', `rlm-item-of-part',
`rlm-item-of-buffer' and `rlm-item-of-text' make them, or nil if it can say
nothing of this place."
  :group 'rlm
  :type 'hook
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-url-timeout 60
  "Seconds that `rlm-add-url' waits for a page."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

;;;; The commands

;;;###autoload
(defun rlm-add (&optional whole)
  "Add to the collection what is meant.
That is the region if it is active, else what is marked in Dired, Ibuffer or
the list of bookmarks, else the files in which grep, xref or occur has found
something, else compilation output with the files that it names, else a node
of Info, a page of EWW, or the Org subtree whose heading point is on, else
the buffer, or its visible part if it is narrowed.
With a prefix argument, WHOLE, add the whole that it belongs to: in Info the
manual, elsewhere the project.  `rlm-context' shows what is collected."
  (interactive "P")
  (rlm-add-items (if whole
                     (rlm-add--whole)
                   (run-hook-with-args-until-success 'rlm-add-functions))))

(defun rlm-add-items (items)
  "Add ITEMS to the collection, and tell what was added."
  (unless items
    (user-error "There is nothing to add here"))
  (let ((new (rlm-collection-add items)))
    (when (use-region-p)
      (deactivate-mark))
    (message "%s; collected in all: %s"
             (rlm-add--report new (length items))
             (length (rlm-collection-items rlm-collection-current)))
    new))

(defun rlm-add--report (new count)
  "Return a few words on NEW, those of COUNT items that were not there yet."
  (cond ((null new) (if (= count 1) "It was there already" "They were there already"))
        ((cdr new) (format "Added %d things%s" (length new)
                           (if (< (length new) count)
                               (format " (%d were there)" (- count (length new)))
                             "")))
        (t (format "Added %s (%s)" (rlm-item-name (car new)) (rlm-item-why (car new))))))

(defun rlm-add--whole ()
  "Return the whole that this place belongs to, as a list of items."
  (if (derived-mode-p 'Info-mode)
      (rlm-add--manual)
    (require 'rlm-project)
    (let ((root (or (rlm-project-root)
                    (user-error "No project here; without a prefix the buffer is added"))))
      (list (rlm-item-of-file root "project")))))

;;;###autoload
(defun rlm-add-files (files)
  "Add FILES, a list of names of files and directories, to the collection.
Wildcards are expanded."
  (interactive (list (rlm--read-files)))
  (rlm-add-items (mapcar (lambda (file) (rlm-item-of-file file "chosen")) files)))

;;;###autoload
(defun rlm-add-bookmark (name)
  "Add the place of the bookmark NAME to the collection."
  (interactive
   (progn
     (require 'bookmark)
     (bookmark-maybe-load-default-file)
     (list (completing-read "Add bookmark: " (bookmark-all-names) nil t))))
  (rlm-add-items (rlm-add--bookmark name)))

;;;; Regions and buffers

(defun rlm-add-region ()
  "Return the region, if it is active and stands for its text."
  (when (and (use-region-p)
             (not (derived-mode-p 'dired-mode 'ibuffer-mode 'bookmark-bmenu-mode)))
    (list (rlm-item-of-part (region-beginning) (region-end) "region"))))

(defun rlm-add-buffer ()
  "Return the current buffer, or its visible part if it is narrowed."
  (list (rlm-item-of-buffer "buffer")))

(defun rlm-add--buffer (buffer why)
  "Return the whole of BUFFER as an item that is there for WHY."
  (with-current-buffer buffer
    (save-restriction
      (widen)
      (rlm-item-of-buffer why))))

(defun rlm-add--buffers (buffers why)
  "Return those of BUFFERS that hold any text as items that are there for WHY."
  (delq nil (mapcar (lambda (buffer)
                      (with-current-buffer buffer
                        (save-restriction
                          (widen)
                          (and (rlm-context--text-p (point-min) (point-max))
                               (rlm-item-of-buffer why)))))
                    buffers)))

;;;; Lists in which things are marked

(defun rlm-add-dired ()
  "Return what is marked in this Dired buffer, else the file at point."
  (when (derived-mode-p 'dired-mode)
    (require 'rlm-dired)
    (let ((why (if (rlm-dired-marked-p) "marked in Dired" "Dired")))
      (mapcar (lambda (file) (rlm-item-of-file file why)) (rlm-dired-files)))))

(defun rlm-add-ibuffer ()
  "Return the buffers that are marked in this Ibuffer, else the one at point."
  (when (derived-mode-p 'ibuffer-mode)
    (let ((marked (ibuffer-get-marked-buffers)))
      (rlm-add--buffers (or marked (list (ibuffer-current-buffer t)))
                        (if marked "marked in Ibuffer" "Ibuffer")))))

(defun rlm-add-bookmarks ()
  "Return the bookmarks that are marked in this list, else the one at point."
  (when (derived-mode-p 'bookmark-bmenu-mode)
    (let (names)
      (save-excursion
        (goto-char (point-min))
        (while (not (eobp))
          (when (looking-at-p ">")
            (push (bookmark-bmenu-bookmark) names))
          (forward-line)))
      (mapcan #'rlm-add--bookmark
              (or (nreverse names)
                  (list (or (bookmark-bmenu-bookmark)
                            (user-error "There is no bookmark here"))))))))

(defun rlm-add--bookmark (name)
  "Return the place of the bookmark NAME, as a list of items."
  (let ((file (bookmark-get-filename name))
        (why (format "bookmark %s" name)))
    (if (and file (not (bookmark-get-handler name)))
        (list (rlm-item-of-file file why))
      (let ((items (save-window-excursion
                     (save-current-buffer
                       (bookmark-jump name #'set-buffer)
                       (run-hook-with-args-until-success 'rlm-add-functions)))))
        (dolist (item items)
          (setf (rlm-item-why item) why))
        items))))

;;;; Lists of matches

(defun rlm-add-matches ()
  "Return the files and buffers in which this list of matches leads."
  (when-let ((places (cond ((derived-mode-p 'grep-mode) (rlm-add--compilation-places))
                           ((derived-mode-p 'xref--xref-buffer-mode) (rlm-add--xref-places))
                           ((derived-mode-p 'occur-mode) (rlm-add--occur-places)))))
    (rlm-add--places places "match" "matches")))

(defun rlm-add--places (places one many)
  "Return PLACES, a list of files and buffers with repetitions, as items.
Why they are there says how often; ONE and MANY are the nouns for it."
  (let ((name (buffer-name)))
    (mapcan (pcase-lambda (`(,place . ,all))
              (let ((why (format "%d %s in %s" (length all)
                                 (if (cdr all) many one) name)))
                (if (bufferp place)
                    (rlm-add--buffers (list place) why)
                  (and (file-exists-p place) (list (rlm-item-of-file place why))))))
            (seq-group-by #'identity places))))

(defun rlm-add--property-values (property)
  "Return the values of the text PROPERTY in the current buffer, one for each run."
  (save-excursion
    (save-restriction
      (widen)
      (let ((position (point-min)) values)
        (while (< position (point-max))
          (when-let ((value (get-text-property position property)))
            (push value values))
          (setq position (next-single-property-change position property nil (point-max))))
        (nreverse values)))))

(defun rlm-add--compilation-places ()
  "Return the files that the messages of this compilation buffer name."
  (compilation--ensure-parse (point-max))
  (delq nil (mapcar #'rlm-add--message-file
                    (delete-consecutive-dups
                     (rlm-add--property-values 'compilation-message)))))

(defun rlm-add--message-file (message)
  "Return the file that MESSAGE of a compilation is about."
  (when-let* ((location (compilation--message->loc message))
              (file (compilation--loc->file-struct location))
              (spec (compilation--file-struct->file-spec file))
              (name (car spec)))
    (and (stringp name)
         (expand-file-name name (if (cadr spec)
                                    (expand-file-name (cadr spec))
                                  default-directory)))))

(defun rlm-add--xref-places ()
  "Return the files and buffers that this list of references names."
  (mapcar (lambda (item)
            (let* ((location (xref-item-location item))
                   (group (xref-location-group location)))
              (if (and (file-name-absolute-p group) (file-exists-p group))
                  group
                (rlm-add--buffer-place (marker-buffer (xref-location-marker location))))))
          (rlm-add--property-values 'xref-item)))

(defun rlm-add--occur-places ()
  "Return the files and buffers whose lines are in this Occur buffer."
  (mapcan (lambda (target)
            (let ((marker (if (consp target) (caar target) target)))
              (and (markerp marker) (marker-buffer marker)
                   (list (rlm-add--buffer-place (marker-buffer marker))))))
          (delete-consecutive-dups (rlm-add--property-values 'occur-target))))

(defun rlm-add--buffer-place (buffer)
  "Return the file that BUFFER visits, if it can be read as it is, else BUFFER."
  (let ((file (buffer-file-name buffer)))
    (if (and file (rlm-context--plain-p file)) (expand-file-name file) buffer)))

(defun rlm-add-compilation ()
  "Return the output of a compilation, and the files that it names."
  (when (derived-mode-p 'compilation-mode)
    (cons (rlm-item-of-text (buffer-substring-no-properties (point-min) (point-max))
                            (buffer-name) (concat "rlm-buffer:" (buffer-name))
                            "output of a compilation")
          (rlm-add--places (rlm-add--compilation-places) "message" "messages"))))

;;;; Org, Info and pages

(defun rlm-add-subtree ()
  "Return the subtree whose heading point is on, in an Org buffer."
  (when (and (derived-mode-p 'org-mode) (org-at-heading-p))
    (save-excursion
      (org-back-to-heading t)
      (list (rlm-item-of-part (point)
                              (save-excursion (org-end-of-subtree t t))
                              (format "subtree %s"
                                      (substring-no-properties
                                       (org-get-heading t t t t))))))))

(defun rlm-add-info ()
  "Return the node of this Info buffer."
  (when (derived-mode-p 'Info-mode)
    (let ((name (rlm-add--node-name)))
      (list (rlm-item-of-text (buffer-substring-no-properties (point-min) (point-max))
                              name (concat "rlm-buffer:" name) "Info node")))))

(defun rlm-add--node-name ()
  "Return the name of the node of this Info buffer, as \"(MANUAL)NODE\"."
  (format "(%s)%s" (rlm-add--manual-name) Info-current-node))

(defun rlm-add--manual-name ()
  "Return the name of the manual of this Info buffer."
  (if (stringp Info-current-file)
      (file-name-sans-extension (file-name-nondirectory Info-current-file))
    (format "%s" Info-current-file)))

(defun rlm-add--manual ()
  "Return the manual of this Info buffer, as a list of one item."
  (unless (stringp Info-current-file)
    (user-error "This is no manual that stands in a file"))
  (let ((name (format "(%s)" (rlm-add--manual-name))))
    (list (rlm-item-of-text (rlm-add--manual-text Info-current-file) name
                            (concat "rlm-buffer:" name "Top") "Info manual"))))

(defun rlm-add--manual-text (manual)
  "Return the text of MANUAL, a file of Info, with those that it is split into."
  (let ((file (Info-find-file manual)))
    (with-temp-buffer
      (info-insert-file-contents file)
      (goto-char (point-min))
      (when (search-forward "\n\^_\nIndirect:\n" nil t)
        (let (parts)
          (while (looking-at "\\(.+\\): [0-9]+\n")
            (push (expand-file-name (match-string 1) (file-name-directory file)) parts)
            (forward-line))
          (erase-buffer)
          (dolist (part (nreverse parts))
            (goto-char (point-max))
            (info-insert-file-contents part))))
      (rlm-add--drop-tag-table)
      (replace-regexp-in-string "\^_\n?" "" (buffer-substring-no-properties
                                             (point-min) (point-max))))))

(defun rlm-add--drop-tag-table ()
  "Delete the table of tags at the end of the current buffer, a file of Info."
  (goto-char (point-min))
  (when (search-forward "\n\^_\nTag Table:\n" nil t)
    (delete-region (match-beginning 0) (point-max))))

(defun rlm-add-page ()
  "Return the page of this EWW buffer, as it is rendered."
  (when (derived-mode-p 'eww-mode)
    (let* ((url (plist-get eww-data :url))
           (title (string-trim (or (plist-get eww-data :title) ""))))
      (list (rlm-item-of-text (buffer-substring-no-properties (point-min) (point-max))
                              (if (string-empty-p title) (or url (buffer-name)) title)
                              (concat "rlm-buffer:" (or url (buffer-name)))
                              (or url "page"))))))

;;;; Fetching pages

;;;###autoload
(defun rlm-add-url (url)
  "Fetch the page at URL, and add its text to the collection.
Emacs goes on meanwhile; a message says when the page is there."
  (interactive (list (rlm-add--read-url)))
  (unless (string-match-p "\\`https?://[^/]" url)
    (user-error "Only addresses that begin with http:// or https:// can be fetched"))
  (message "Fetching %s..." url)
  (let* ((state (list nil))
         (buffer (url-retrieve url #'rlm-add--fetched
                               (list url rlm-collection-current state) t t)))
    (unless (car state)                 ; an answer may be there at once
      (setcar state (run-at-time rlm-url-timeout nil #'rlm-add--give-up url buffer state)))))

(defun rlm-add--read-url ()
  "Read the address of a page; that of the page or link here is offered."
  (let ((default (or (get-text-property (point) 'shr-url)
                     (and (derived-mode-p 'eww-mode) (plist-get eww-data :url))
                     (thing-at-point 'url t))))
    (string-trim (read-string (format-prompt "Add the page at" default) nil nil default))))

(defun rlm-add--give-up (url buffer state)
  "Stop waiting for URL, which BUFFER was to receive; STATE is for its callback."
  (setcar state 'late)
  (when (buffer-live-p buffer)
    (rlm-add--bury buffer))
  (message "rlm: %s did not answer within %s seconds" url rlm-url-timeout))

(defun rlm-add--bury (buffer)
  "Kill BUFFER and the process that fills it; nobody is called back."
  (when-let ((process (get-buffer-process buffer)))
    (set-process-sentinel process #'ignore)
    (delete-process process))
  (let (kill-buffer-query-functions)
    (kill-buffer buffer)))

(defun rlm-add--fetched (status url collection state)
  "Add the page in the current buffer, which is the answer to URL.
STATUS is what url.el says of it, COLLECTION the one to add to, and STATE a
list of the timer that would give it up, or of the symbol late."
  (let ((buffer (current-buffer))
        (late (eq (car state) 'late)))
    (when (timerp (car state))
      (cancel-timer (car state)))
    (setcar state 'answered)
    (unwind-protect
        (unless late
          (condition-case problem
              (progn
                (rlm-add--check-answer status)
                (unless (eq collection rlm-collection-current)
                  (user-error "The collection it was for is not the current one any more"))
                (rlm-add-items (list (rlm-add--page-item url))))
            (error (message "rlm: %s was not added: %s" url
                            (error-message-string problem)))))
      (rlm-add--bury buffer))))

(defun rlm-add--check-answer (status)
  "Signal an error unless STATUS is that of a page that is there."
  (when-let ((problem (plist-get status :error)))
    (user-error "%s" (if (and (eq (car problem) 'error) (eq (cadr problem) 'http))
                         (format "the server says %s" (nth 2 problem))
                       (error-message-string problem)))))

(defun rlm-add--page-item (url)
  "Return the page in the current buffer, the answer to URL, as an item."
  (goto-char (point-min))
  (let* ((case-fold-search t)
         (headers (if (re-search-forward "\r?\n\r?\n" nil t) (point) (point-max)))
         (type (rlm-add--content-type headers))
         (text (decode-coding-string
                (buffer-substring-no-properties headers (point-max))
                (rlm-add--coding (cdr type)))))
    (pcase-let ((`(,title . ,text)
                 (cond ((member (car type) '("text/html" "application/xhtml+xml"))
                        (rlm-add--rendered text))
                       ((string-match-p "\\`text/\\|[/+]\\(?:json\\|xml\\|javascript\\)\\'"
                                        (car type))
                        (cons nil (string-replace "\r\n" "\n" text)))
                       (t (user-error "It is %s, not text" (car type))))))
      (rlm-item-of-text text (or title url) (concat "rlm-buffer:" url) url))))

(defun rlm-add--content-type (headers)
  "Return the type of the answer whose HEADERS end there, and its charset."
  (goto-char (point-min))
  (if (re-search-forward
       "^content-type:[ \t]*\\([^; \t\r\n]+\\)\\(?:.*charset=\"?\\([^\"; \t\r\n]+\\)\\)?"
       headers t)
      (cons (downcase (match-string 1)) (match-string 2))
    (cons "text/plain" nil)))

(defun rlm-add--coding (charset)
  "Return the coding system for CHARSET, a name or nil."
  (let ((coding (and charset (intern (downcase charset)))))
    (if (and coding (coding-system-p coding)) coding 'utf-8)))

(defun rlm-add--rendered (html)
  "Return a cons of the title and the text of HTML.
Without the library for it in this Emacs, the text is HTML as it is."
  (if (not (and (fboundp 'libxml-parse-html-region)
                (or (not (fboundp 'libxml-available-p)) (libxml-available-p))))
      (cons nil html)
    (require 'shr)
    (with-temp-buffer
      (insert html)
      (let* ((dom (libxml-parse-html-region (point-min) (point-max)))
             (title (car (dom-by-tag dom 'title)))
             (shr-inhibit-images t) (shr-use-fonts nil) (shr-width 100))
        (erase-buffer)
        (shr-insert-document dom)
        (cons (and title (string-trim (replace-regexp-in-string "[ \t\n]+" " "
                                                                (dom-text title))))
              (buffer-substring-no-properties (point-min) (point-max)))))))

(provide 'rlm-add)
;;; rlm-add.el ends here
