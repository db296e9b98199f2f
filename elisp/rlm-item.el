;;; rlm-item.el --- One thing that a question will be about  -*- lexical-binding: t; -*-

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

;; An item is a file, a directory, a part of a live buffer, or a text whose
;; buffer may be gone.  It holds no text: a file is read when it is asked
;; about, a part is followed by markers, and a text stands in a private file.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-context)
(require 'rlm-server)

(cl-defstruct (rlm-item (:constructor rlm-item--make) (:copier nil))
  "One thing in a collection."
  (kind 'file :documentation "One of the symbols file, directory, part and text.")
  (name "" :documentation "What it is called in lists.")
  (why "" :documentation "Why it is in the collection, in a few words.")
  (file nil :documentation "File or directory; of a text, the private file that holds it.")
  (beg nil :documentation "Marker at the start of a part.")
  (end nil :documentation "Marker at the end of a part.")
  (source nil :documentation "Plist of :name, :origin and :firstLine of a text.")
  (figures nil :documentation "What the server has measured of a directory, a plist.")
  (seen nil :documentation "What was found when its file was last looked at, a plist."))

;;;; Making items

(defun rlm-item-of-file (file why)
  "Return FILE, which may be a directory, as an item that is there for WHY."
  (let ((file (expand-file-name file)))
    (rlm-item--make :kind (if (file-directory-p file) 'directory 'file)
                    :file (if (file-directory-p file) (file-name-as-directory file) file)
                    :name (abbreviate-file-name file)
                    :why why)))

(defun rlm-item-of-part (beg end why &optional grows)
  "Return the text from BEG to END as an item that is there for WHY.
The item follows the edits of the current buffer.  What is inserted right
after it belongs to it only if it GROWS."
  (rlm-context-check-region beg end)
  (let ((buffer (or (buffer-base-buffer) (current-buffer))))
    (rlm-item--make :kind 'part :why why :name (buffer-name)
                    :beg (copy-marker beg)
                    :end (with-current-buffer buffer (copy-marker end grows)))))

(defun rlm-item-of-buffer (why)
  "Return the current buffer, or its visible part, as an item there for WHY.
It is the buffer's file, if it has one that can be read as it is."
  (rlm-context-check-buffer)
  (let ((file (rlm-context-visited)))
    (cond ((buffer-narrowed-p)
           (rlm-item-of-part (point-min) (point-max) (concat why ", narrowed") t))
          ((and file (rlm-context-plain-p file (rlm-server-host-of file)))
           (rlm-item-of-file file why))
          (t (rlm-item-of-part (point-min) (point-max) why t)))))

(defun rlm-items-of-buffers (buffers why)
  "Return those of BUFFERS that hold any text as items that are there for WHY."
  (delq nil (mapcar (lambda (buffer)
                      (with-current-buffer buffer
                        (save-restriction
                          (widen)
                          (and (rlm-context-text-p (point-min) (point-max))
                               (rlm-item-of-buffer why)))))
                    buffers)))

;;;; Looking at items

(defun rlm-item-buffer (item)
  "Return the live buffer of ITEM, a part, or nil."
  (and (rlm-item-beg item) (marker-buffer (rlm-item-beg item))))

(defun rlm-item-lines (item)
  "Return the first and the last line of ITEM, a part, as a cons."
  (with-current-buffer (rlm-item-buffer item)
    (save-restriction
      (widen)
      (let ((end (marker-position (rlm-item-end item))))
        (cons (line-number-at-pos (rlm-item-beg item))
              (line-number-at-pos (if (eq (char-before end) ?\n) (1- end) end)))))))

(defun rlm-item-whole-p (item)
  "Return non-nil if ITEM, a part, is the whole of its buffer."
  (with-current-buffer (rlm-item-buffer item)
    (and (= (rlm-item-beg item) 1)
         (= (rlm-item-end item) (1+ (buffer-size))))))

(defun rlm-item-bytes (item)
  "Return the size of ITEM in bytes, or nil where it is not known."
  (pcase (rlm-item-kind item)
    ('directory (plist-get (rlm-item-figures item) :bytes))
    ('part (if (rlm-item-buffer item)
               (with-current-buffer (rlm-item-buffer item)
                 (save-restriction
                   (widen)
                   (- (position-bytes (rlm-item-end item))
                      (position-bytes (rlm-item-beg item)))))))
    (_ (plist-get (rlm-item-seen item) :bytes))))

(defun rlm-item-look (item)
  "Look how large the file of ITEM is, and whether it is there.
That may take long on another machine, so lists only show what was found."
  (unless (eq (rlm-item-kind item) 'part)
    (let ((there (file-exists-p (rlm-item-file item))))
      (setf (rlm-item-seen item)
            (list :gone (not there)
                  :bytes (and there (not (eq (rlm-item-kind item) 'directory))
                              (rlm-item--file-bytes (rlm-item-file item))))))))

(defun rlm-item-seen-gone-p (item)
  "Return non-nil if ITEM was not there when it was last looked at."
  (if (eq (rlm-item-kind item) 'part)
      (rlm-item-gone-p item)
    (plist-get (rlm-item-seen item) :gone)))

(defun rlm-item--file-bytes (file)
  "Return the bytes of FILE as it stands in its buffer, or nil."
  (let ((buffer (get-file-buffer file)))
    (if (and buffer (buffer-modified-p buffer))
        (with-current-buffer buffer
          (save-restriction
            (widen)
            (1- (position-bytes (point-max)))))
      (file-attribute-size (file-attributes file)))))

(defun rlm-item-gone-p (item)
  "Return non-nil if what ITEM stands for is not there any more."
  (if (eq (rlm-item-kind item) 'part)
      (not (rlm-item-buffer item))
    (not (file-exists-p (rlm-item-file item)))))

(defun rlm-item-likeness (item)
  "Return what is `equal' for all items that may be the same as ITEM."
  (pcase (rlm-item-kind item)
    ('part (rlm-item-buffer item))
    ('text (rlm-item-source item))
    (_ (rlm-item-file item))))

(defun rlm-item-same-p (one two)
  "Return non-nil if the items ONE and TWO stand for the same thing."
  (and (eq (rlm-item-kind one) (rlm-item-kind two))
       (pcase (rlm-item-kind one)
         ('part (and (eq (rlm-item-buffer one) (rlm-item-buffer two))
                     (rlm-item-buffer one)
                     (= (rlm-item-beg one) (rlm-item-beg two))
                     (= (rlm-item-end one) (rlm-item-end two))))
         ('text (and (equal (rlm-item-source one) (rlm-item-source two))
                     (rlm-item--same-text-p one two)))
         (_ (string= (rlm-item-file one) (rlm-item-file two))))))

(defun rlm-item--same-text-p (one two)
  "Return non-nil if ONE and TWO, texts, hold the same."
  (let ((files (mapcar #'rlm-item-file (list one two))))
    (or (apply #'string= files)
        (and (apply #'eql (mapcar (lambda (file) (file-attribute-size (file-attributes file)))
                                  files))
             (string= (rlm-item-text one) (rlm-item-text two))))))

(defun rlm-item-text (item)
  "Return the text of ITEM, a text."
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8-emacs-unix))
      (insert-file-contents (rlm-item-file item)))
    (buffer-string)))

(provide 'rlm-item)
;;; rlm-item.el ends here
